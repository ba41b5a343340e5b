"""The sidecar's settings, read once from the environment. Zone: no secrets; the token is only a path here."""

DELIVERY_FILE = "file"
DELIVERY_SOCKET = "socket"
SOCKET_NAME = "datakeys.sock"

MAX_NAME_CHARACTERS = 253
_LOWEST_PORT = 1024
_HIGHEST_PORT = 65535
_NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-.")
_LEVELS = {"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40}


class Settings:
    """What the webhook has written into the container's environment."""

    __slots__ = (
        "ca_file",
        "delivery",
        "encrypted_directory",
        "endpoint_port",
        "keys_directory",
        "keyservice_url",
        "log_level",
        "requests",
        "token_file",
    )

    def __init__(self, environment: dict[str, str]) -> None:
        get = environment.get
        #: Names of the DataKeyRequests: names of folders and of delivered files too, so they are checked.
        requests = get("DATAKEYS_REQUESTS", "")
        self.requests = [name.strip() for name in requests.split(",")] if requests else []
        #: The KMS endpoint's port on loopback; 0: there is none.
        self.endpoint_port = _parse_port(get("DATAKEYS_AWS_ENDPOINT_PORT", ""))
        self.delivery = get("DATAKEYS_DELIVERY", DELIVERY_FILE)
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


def _parse_port(text: str) -> int:
    """Return a port, 0 for an empty text, -1 for any other."""
    if not text:
        return 0
    fits = len(text) <= len(str(_HIGHEST_PORT)) and text.isascii() and text.isdecimal()
    return int(text) if fits and _LOWEST_PORT <= int(text) <= _HIGHEST_PORT else -1


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
    if settings.delivery not in (DELIVERY_FILE, DELIVERY_SOCKET):
        raise ValueError("DATAKEYS_DELIVERY must be file or socket")
    if not settings.keyservice_url.startswith("https://"):
        raise ValueError("DATAKEYS_KEYSERVICE_URL must be an https URL")
    return settings
