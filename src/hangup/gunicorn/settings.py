"""gunicorn's settings: which of them a worker of hangup's hears, and what they become.

Each setting that gunicorn knows stands in one of the three groups below, with a row in docs/gunicorn.md;
tests/test_gunicorn_settings.py holds both.
"""

import dataclasses
import os
from typing import Any

from ..config import Config, refuse_old_variables
from ..exceptions import ConfigError
from ..wsgi.server import DEFAULT_THREADS

__all__ = ["HEARD", "REFUSED", "WITHOUT_EFFECT", "check_settings", "config_of", "setting"]


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: Means what it means with gunicorn's own workers. Most of it is its arbiter's business.
HEARD = _names(
    """
    config wsgi_app bind backlog workers worker_class threads worker_connections max_requests
    max_requests_jitter timeout graceful_timeout keepalive limit_request_line limit_request_fields
    limit_request_field_size reload reload_engine reload_extra_files spew check_config print_config
    preload_app sendfile reuse_port chdir daemon raw_env pidfile worker_tmp_dir user group umask
    initgroups secure_scheme_headers forwarded_allow_ips accesslog disable_redirect_access_to_syslog
    access_log_format errorlog loglevel capture_output logger_class logconfig logconfig_dict
    logconfig_json syslog_addr syslog syslog_prefix syslog_facility enable_stdio_inheritance statsd_host
    dogstatsd_tags statsd_prefix enable_backlog_metric proc_name default_proc_name pythonpath paste
    on_starting on_reload when_ready pre_fork post_fork post_worker_init worker_int worker_abort pre_exec
    pre_request post_request child_exit worker_exit nworkers_changed on_exit ssl_context proxy_protocol
    proxy_allow_ips keyfile certfile cert_reqs ca_certs ciphers raw_paste_global_conf
    permit_obsolete_folding strip_header_spaces permit_unconventional_http_method casefold_http_method
    forwarder_headers header_map dirty_apps dirty_workers dirty_timeout dirty_threads
    dirty_graceful_timeout on_dirty_starting dirty_post_fork dirty_worker_init dirty_worker_exit
    control_socket control_socket_mode control_socket_disable
    """
)
#: Said at the start, where it is set to what hangup does not do.
REFUSED = _names("protocol http_protocols http2_cleartext permit_unconventional_http_version")
#: For other workers, or for what hangup does in its own way.
WITHOUT_EFFECT = _names(
    """
    tmp_upload_dir uwsgi_allow_ips ssl_version suppress_ragged_eofs do_handshake_on_connect
    http2_max_concurrent_streams http2_initial_window_size http2_max_frame_size
    http2_max_header_list_size asgi_loop asgi_lifespan asgi_disconnect_grace_period
    websocket_max_message_size http_parser root_path
    """
)

# gunicorn's own bound, which 0 stands for (gunicorn.http.message.MAX_HEADERS).
_MAX_FIELDS = 32768
# Below these, hangup's own limits would not take a number.
_SHORTEST_LINE = _SHORTEST_FIELD = 64


# What a setting is for a gunicorn that does not know it yet.
_BEFORE = {
    "casefold_http_method": False,
    "forwarder_headers": ("SCRIPT_NAME", "PATH_INFO"),
    "header_map": "drop",
    "http2_cleartext": "off",
    "http_protocols": ("h1",),
    "permit_obsolete_folding": False,
    "permit_unconventional_http_method": False,
    "permit_unconventional_http_version": False,
    "protocol": "http",
    "strip_header_spaces": False,
}


def setting(cfg: Any, name: str) -> Any:
    """A setting, also of an older gunicorn (23, say) that does not know it."""
    return getattr(cfg, name, _BEFORE[name])


def check_settings(cfg: Any, log: Any) -> None:
    """Say what is asked for in vain.

    Raises :exc:`RuntimeError`, at which gunicorn ends with its text, for what leaves nothing to serve.
    """
    protocol = setting(cfg, "protocol")
    if protocol != "http":
        raise RuntimeError(f"hangup.gunicorn.Worker speaks HTTP, and not protocol={protocol!r}")
    try:
        config_of(cfg)
    except ConfigError as error:
        raise RuntimeError(f"hangup.gunicorn.Worker: {error}") from None
    if [name for name in setting(cfg, "http_protocols") if name != "h1"]:
        log.warning("http_protocols: hangup.gunicorn.Worker speaks HTTP/1.1 alone, and no HTTP/2")
    if setting(cfg, "http2_cleartext") != "off":
        log.warning("http2_cleartext is not heard: hangup.gunicorn.Worker speaks HTTP/1.1 alone")
    if setting(cfg, "permit_unconventional_http_version"):
        log.warning(
            "permit_unconventional_http_version is not heard: hangup.gunicorn.Worker takes HTTP/1.x"
        )


def config_of(cfg: Any) -> Config:
    """Settings of hangup's: from gunicorn's, and from ``HANGUP_…`` for what gunicorn doesn't know.

    Raises :exc:`~hangup.ConfigError`.
    """
    line, size = cfg.limit_request_line, cfg.limit_request_field_size
    fields = min(cfg.limit_request_fields, _MAX_FIELDS) or _MAX_FIELDS
    known: dict[str, Any] = {
        "max_threads": cfg.threads if cfg.threads > 1 else DEFAULT_THREADS,
        "backlog": cfg.backlog,
        # gunicorn counts a line without its CRLF, and a field with it.
        "max_request_line_size": line and max(line + 2, _SHORTEST_LINE),
        "max_request_field_size": size and max(size - 2, _SHORTEST_FIELD),
        "max_request_fields": fields,
    }
    if cfg.keepalive:
        known["keep_alive_timeout"] = float(cfg.keepalive)
    else:
        known["max_requests"] = 1
    if cfg.worker_connections != cfg.settings["worker_connections"].default:
        known["max_connections"] = cfg.worker_connections
    # What gunicorn does not limit, or by its other limits alone.
    unless_told = {"max_request_body_size": 0, "max_request_header_size": fields * (size + 2)}
    if not size:
        unless_told["max_request_header_size"] = 0
    return Config(**unless_told | _from_environment(set(known)) | known)


def _from_environment(known: set[str]) -> dict[str, Any]:
    refuse_old_variables()
    told: dict[str, Any] = {}
    for field in dataclasses.fields(Config):
        variable = f"HANGUP_{field.name.upper()}"
        text = os.environ.get(variable)
        if field.name in known or text is None:
            continue
        kind = field.type if field.type in (int, float) else str
        try:
            told[field.name] = kind(text)
        except ValueError:
            raise ConfigError(f"{variable} must be a number, not {text!r}") from None
    return told
