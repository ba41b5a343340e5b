"""The sidecar's settings, read once from the environment. Zone: no secrets; the token is only a path here."""

DELIVERY_FILE = "file"
DELIVERY_SOCKET = "socket"
#: Files, but from an init container that ends when they are all there.
DELIVERY_INIT = "init"
READS_ONCE = "once"
SOCKET_NAME = "datakeys.sock"

MAX_NAME_CHARACTERS = 253
_LOWEST_PORT = 1024
_HIGHEST_PORT = 65535
_NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-.")
#: Octal text of a file's mode -> mode. The sidecar may write, so that it can overwrite; nobody else.
_FILE_MODES = {"0400": 0o400, "0440": 0o440, "0444": 0o444}
#: 30 days.
MAX_TTL_SECONDS = 2_592_000
_LEVELS = {"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40}


class Settings:
    """What the webhook has written into the container's environment."""

    __slots__ = (
        "bound_requests",
        "ca_file",
        "delivery",
        "encrypted_directory",
        "endpoint_port",
        "file_mode",
        "keys_directory",
        "keyservice_url",
        "log_level",
        "reads",
        "requests",
        "token_file",
        "ttl_seconds",
    )

    def __init__(self, environment: dict[str, str]) -> None:
        get = environment.get
        #: Names of the DataKeyRequests: names of folders and of delivered files too, so they are checked.
        requests = get("DATAKEYS_REQUESTS", "")
        self.requests = [name.strip() for name in requests.split(",")] if requests else []
        #: Delivered name -> DataKeyRequest, for those that differ.
        self.bound_requests = parse_bound_requests(get("DATAKEYS_BOUND_REQUESTS", ""))
        #: The KMS endpoint's port on loopback; 0: there is none.
        self.endpoint_port = _parse_port(get("DATAKEYS_AWS_ENDPOINT_PORT", ""))
        self.delivery = get("DATAKEYS_DELIVERY", DELIVERY_FILE)
        #: How long a data key lives after its delivery, in seconds; 0: as long as the pod; -1: malformed.
        self.ttl_seconds = _parse_ttl(get("DATAKEYS_TTL_SECONDS", ""))
        #: ``once``, or empty for any number.
        self.reads = get("DATAKEYS_READS", "")
        #: Of delivered files; -1: malformed.
        self.file_mode = _FILE_MODES.get(get("DATAKEYS_FILE_MODE", "0400"), -1)
        self.keyservice_url = get("DATAKEYS_KEYSERVICE_URL", "")
        self.ca_file = get("DATAKEYS_KEYSERVICE_CA_FILE", "/var/run/datakeys/trust/ca.crt")
        self.token_file = get("DATAKEYS_TOKEN_FILE", "/var/run/datakeys/token/token")
        #: The two folders are fixed in a pod; tests move them.
        self.encrypted_directory = get("DATAKEYS_ENCRYPTED_DIRECTORY", "/var/run/datakeys/encrypted")
        self.keys_directory = get("DATAKEYS_KEYS_DIRECTORY", "/var/run/datakeys/keys")
        self.log_level = _LEVELS.get(get("DATAKEYS_LOG_LEVEL", "INFO").upper(), _LEVELS["INFO"])

    @property
    def socket_path(self) -> str:
        """Return the path of the Unix socket of delivery ``socket``."""
        return f"{self.keys_directory}/{SOCKET_NAME}"


def parse_bound_requests(text: str) -> dict[str, str]:
    """Return the DataKeyRequest of each delivered name, from ``data-key=orders.deployment,…``."""
    pairs = [pair.partition("=") for pair in text.split(",")] if text else []
    return {name: request for name, _, request in pairs}


def _parse_port(text: str) -> int:
    """Return a port, 0 for an empty text, -1 for any other."""
    if not text:
        return 0
    fits = len(text) <= len(str(_HIGHEST_PORT)) and text.isascii() and text.isdecimal()
    return int(text) if fits and _LOWEST_PORT <= int(text) <= _HIGHEST_PORT else -1


def _parse_ttl(text: str) -> int:
    """Return a number of seconds, 0 for an empty text, -1 for any other."""
    if not text:
        return 0
    fits = len(text) <= len(str(MAX_TTL_SECONDS)) and text.isascii() and text.isdecimal()
    return int(text) if fits and 1 <= int(text) <= MAX_TTL_SECONDS else -1


def is_request_name(name: str) -> bool:
    """Return whether a name is a DNS subdomain, or one with ``@`` and a version: it needs no escaping.

    Source: Kubernetes "Object Names and IDs", section "DNS Subdomain Names".
    """
    stem, at, version = name.rpartition("@") if "@" in name else (name, "", "")
    return (
        0 < len(name) <= MAX_NAME_CHARACTERS
        and _NAME_CHARACTERS.issuperset(stem)
        and all(label and label[0] != "-" and label[-1] != "-" for label in stem.split("."))
        and (not at or (version.isascii() and version.isdecimal() and version[0] != "0"))
    )


def read_settings(environment: dict[str, str]) -> Settings:
    """Read and check the settings.

    Raises:
        ValueError: A variable is missing or malformed; the text names it.
    """
    settings = Settings(environment)
    if settings.endpoint_port < 0:
        raise ValueError("DATAKEYS_AWS_ENDPOINT_PORT must be a port from 1024 to 65535")
    if not all(map(is_request_name, settings.requests)) or not (settings.requests or settings.endpoint_port):
        raise ValueError("DATAKEYS_REQUESTS must name DataKeyRequests, separated by commas")
    if len(set(settings.requests)) != len(settings.requests):
        raise ValueError("DATAKEYS_REQUESTS names a DataKeyRequest twice")
    if not all(map(is_request_name, settings.bound_requests.values())):
        raise ValueError("DATAKEYS_BOUND_REQUESTS must be pairs, name=request, separated by commas")
    if not settings.keyservice_url.startswith("https://"):
        raise ValueError("DATAKEYS_KEYSERVICE_URL must be an https URL")
    _check_delivery(settings)
    return settings


def _check_delivery(settings: Settings) -> None:
    if settings.delivery not in (DELIVERY_FILE, DELIVERY_SOCKET, DELIVERY_INIT):
        raise ValueError("DATAKEYS_DELIVERY must be file, socket or init")
    if settings.ttl_seconds < 0:
        raise ValueError(f"DATAKEYS_TTL_SECONDS must be a number from 1 to {MAX_TTL_SECONDS}")
    if settings.reads not in ("", READS_ONCE):
        raise ValueError("DATAKEYS_READS must be once, or absent")
    if settings.file_mode < 0:
        raise ValueError("DATAKEYS_FILE_MODE must be 0400, 0440 or 0444")
    if settings.delivery == DELIVERY_INIT and (
        settings.ttl_seconds or settings.reads or settings.endpoint_port
    ):
        raise ValueError(
            "DATAKEYS_DELIVERY init leaves no process behind for DATAKEYS_TTL_SECONDS, DATAKEYS_READS or "
            "DATAKEYS_AWS_ENDPOINT_PORT: use file or socket"
        )
