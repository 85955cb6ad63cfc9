"""
The one place where the library for AWS is imported: aioboto3, or else aiobotocore.

Both have the same low-level calls, and nothing else of them is used.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

__all__ = ["client_maker"]


def client_maker(
    service: str,
    region: str,
    endpoint_url: str,
    *,
    mode: str,
    tries: int,
    **config: Any,
) -> Callable[[], Any]:
    """
    Return a function that opens a client; to be called in a worker thread.

    To read what a service can do takes most of a second.

    Args:
        service: Its name in the library.

        region: Its region; empty: what the environment says.

        endpoint_url: Another server than Amazon's; empty: Amazon's.

        mode: How calls are tried again: "standard", or "adaptive", which slows down.

        tries: Attempts of a call that may succeed later.

        config: More of the library's settings.

    Raises:
        ImportError: Neither library is installed.
    """
    from aiobotocore.config import AioConfig
    from aiobotocore.session import get_session
    from botocore.loaders import create_loader

    session = get_session()
    # What a service can do is read here: on the loop it would hold up all others.
    loader = _loader(create_loader)
    loader.load_service_model(service, "service-2")
    session.register_component("data_loader", loader)
    try:
        import aioboto3

        make = aioboto3.Session(botocore_session=session).client
    except ImportError:
        make = session.create_client
    settings = AioConfig(
        connect_timeout=5,
        read_timeout=20,
        max_pool_connections=64,
        retries={"mode": mode, "total_max_attempts": tries},
        **config,
    )
    return lambda: make(
        service,
        config=settings,
        region_name=region or None,
        endpoint_url=endpoint_url or None,
    )


@functools.cache
def _loader(make: Callable[[], Any]) -> Any:
    """Return the one loader of descriptions, which keeps what it has read."""
    return make()
