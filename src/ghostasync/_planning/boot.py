"""The script by which hosts that autoscaling adds set themselves up, made of a plan."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from urllib.parse import quote, urlsplit

from .._local.paths import app_path, local_path, store_url
from .._remote.boot import boot_text
from ..config import check_plan
from ..errors import ConfigError, PlanError
from ..model import Plan

__all__ = ["boot_script"]


def boot_script(
    plan: Plan,
    environ: Mapping[str, str],
    *,
    base_url: str = "",
    group: str = "",
    hook: str = "",
    wait: int = 900,
) -> str:
    """
    Return the text of the script; see :func:`ghostasync.boot_script`.

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
    return boot_text(
        {
            "app": app.name,
            "env": app.env,
            "role": app.role,
            "color": app.color,
            "app_path": app_path(app),
            "root": plan.layout.root,
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
    )


def _place(plan: Plan, environ: Mapping[str, str], base_url: str) -> dict[str, str]:
    """Return where the store is for hosts: a bucket, or an address that anybody reads."""
    url = store_url(plan.store, environ, plan.base)
    if base_url:
        scheme, host, path = urlsplit(base_url)[:3]
        if scheme not in {"http", "https"} or not host:
            raise PlanError(f'--base-url: {base_url} is not "http://…" or "https://…"')
        by_digest = "1" if url.startswith("s3://") else ""
        folder = f"{path.rstrip('/')}/{quote(app_path(plan.app))}"
        return {
            "bucket": "",
            "origin": f"{scheme}://{host}",
            "folder": folder,
            "by_digest": by_digest,
        }
    if not url.startswith("s3://"):
        raise PlanError(
            f"boot-script: hosts reach no folder ({url}): serve it by HTTP to them alone "
            "and say --base-url, or keep the store in S3"
        )
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    folder = quote("/".join(filter(None, (prefix.strip("/"), app_path(plan.app)))))
    endpoint = plan.store.endpoint_url.rstrip("/")
    # No certificate is for a name with a bucket's dots in front.
    by_path = plan.store.path_style or "." in bucket
    origin = endpoint
    if endpoint and not by_path:
        scheme, host = urlsplit(endpoint)[:2]
        origin = f"{scheme}://{bucket}.{host}"
    elif by_path and not endpoint:
        if not plan.store.region:
            raise PlanError("store.region: is needed for a bucket with dots in its name")
        origin = f"https://s3.{plan.store.region}.amazonaws.com"
    if by_path:
        folder = f"{quote(bucket)}/{folder}"
    return {
        "bucket": bucket,
        "origin": origin,
        "folder": f"/{folder}",
        "by_digest": "1",
    }


def _signers(plan: Plan, environ: Mapping[str, str]) -> str:
    if not plan.store.signers:
        return ""
    path = local_path(plan.store.signers, plan.base, environ)
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as exc:
        raise PlanError(f"store.signers: {path}: {exc}") from exc
