"""The script by which hosts that autoscaling adds set themselves up, made of a plan."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping
from urllib.parse import quote, urlsplit

from .._local.paths import app_path, local_path, store_url
from ..config import check_plan
from ..errors import ConfigError, PlanError
from ..model import Plan

__all__ = ["boot_facts"]


def boot_facts(
    plan: Plan,
    environ: Mapping[str, str],
    *,
    base_url: str = "",
    group: str = "",
    hook: str = "",
    wait: int = 900,
) -> dict[str, str]:
    """
    Return what the script of a plan begins with; see :func:`ghostasync.boot_script`.

    Raises:
        ConfigError: The plan is wrong. PlanError: Hosts could not reach the store, or a
        hook is named without its group.
    """
    if problems := check_plan(plan, environ):
        raise ConfigError(problems)
    if bool(group) != bool(hook):
        raise PlanError("boot-script: --group and --hook are for each other: name both")
    app, store, rollout = plan.app, plan.store, plan.rollout
    deadlines = rollout.deadlines
    user = plan.ssh.sudo_user or plan.ssh.user
    return {
        "app": app.name,
        "env": app.env,
        "role": app.role,
        "color": app.color,
        "app_path": app_path(app),
        "root": plan.layout.root,
        "trusted": " ".join(plan.layout.trusted),
        "user": user,
        "proof": plan.layout.proof,
        "keep": str(plan.layout.keep),
        **_place(plan, environ, base_url),
        "region": store.region,
        "signers": _signers(plan, environ),
        "group": group,
        "hook": hook,
        "wait": str(wait),
        # A clock that is behind this has not been set yet.
        "after": str(int(time.time()) - 86_400),
        "action": "boot",
        "pre_deploy": str(math.ceil(deadlines.pre_deploy)),
        "post_deploy": str(math.ceil(deadlines.post_deploy)),
        "verify": str(math.ceil(deadlines.verify)),
    }


def _place(plan: Plan, environ: Mapping[str, str], base_url: str) -> dict[str, str]:
    """Return where hosts find the store: in a bucket, or at an address without keys."""
    url = store_url(plan.store, environ, plan.base)
    if base_url:
        origin = _origin(base_url, "--base-url", path=True)
        path = urlsplit(base_url).path
        by_digest = "1" if url.startswith("s3://") else ""
        folder = f"{quote(path.rstrip('/'), safe='/%')}/{quote(app_path(plan.app))}"
        return {
            "bucket": "",
            "origin": origin,
            "folder": folder,
            "by_digest": by_digest,
        }
    if not url.startswith("s3://"):
        raise PlanError(
            f"boot-script: hosts reach no folder ({url}): serve it by HTTP, to them"
            " alone, and say --base-url; or keep the store in S3"
        )
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    folder = quote("/".join(filter(None, (prefix.strip("/"), app_path(plan.app)))))
    endpoint = _origin(plan.store.endpoint_url, "store.endpoint_url")
    # No certificate is for a name with a bucket's dots in front.
    by_path = plan.store.path_style or "." in bucket
    origin = endpoint
    if endpoint and not by_path:
        scheme, host = urlsplit(endpoint)[:2]
        origin = f"{scheme}://{bucket}.{host}"
    elif by_path and not endpoint:
        if not plan.store.region:
            raise PlanError(
                "store.region: is needed for a bucket with dots in its name"
            )
        china = ".cn" * plan.store.region.startswith("cn-")
        origin = f"https://s3.{plan.store.region}.amazonaws.com{china}"
    if by_path:
        folder = f"{quote(bucket)}/{folder}"
    return {
        "bucket": bucket,
        "origin": origin,
        "folder": f"/{folder}",
        "by_digest": "1",
    }


def _origin(url: str, where: str, *, path: bool = False) -> str:
    """
    Return the scheme and host of *url*, as a request names them; empty without one.

    Raises:
        PlanError: It has more, which a script that signs requests does not know.
    """
    if not url:
        return ""
    text = 'hosts need "http://…" or "https://…", without a user and without "?"'
    try:
        parts = urlsplit(url)
        port, name = parts.port, parts.hostname or ""
    except ValueError:
        raise PlanError(f"{where}: {text}") from None
    more = parts.query or parts.fragment or parts.username is not None
    named = re.fullmatch(r"[A-Za-z0-9._:%-]+", name)
    if parts.scheme not in {"http", "https"} or not named or more:
        raise PlanError(f"{where}: {text}")
    if parts.path.strip("/") and not path:
        raise PlanError(f"{where}: hosts that boot need one without a path")
    usual = {"http": 80, "https": 443}[parts.scheme]
    host = f"[{name}]" if ":" in name else name
    return f"{parts.scheme}://{host}" + ("" if port in {None, usual} else f":{port}")


def _signers(plan: Plan, environ: Mapping[str, str]) -> str:
    if not plan.store.signers:
        return ""
    path = local_path(plan.store.signers, plan.base, environ)
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as exc:
        raise PlanError(f"store.signers: {path}: {exc}") from exc
