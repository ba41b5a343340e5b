"""The servers that are compared: this key service, its floor, and its peers, each as a real process.

Every one listens on loopback and holds one symmetric key. `own` is the local mode and gets requests signed as
an AWS SDK does, as its peers do; `own-token` is the way of a request in a cluster, with tokens.
"""

import contextlib
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time

import boto3
from botocore.config import Config

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))

from ports import find_free_port  # noqa: E402

CACHE = pathlib.Path(os.environ.get("DATAKEYS_CACHE") or pathlib.Path.home() / ".cache" / "datakey-operator")
LOCAL_KMS = ("github.com/nsmithuk/local-kms", "v0.0.0-20260228092603-2a5e92d09ab6")
MOTO = "moto[server]==5.2.5"
ACCESS_KEY, SECRET_KEY, REGION = "AKIDBENCHMARK", "benchmark-secret", "eu-central-1"
VEGETA = ("github.com/tsenart/vegeta/v12", "v12.13.0")
CANDIDATES = ("own-token", "own", "constant", "local-kms", "moto", "own-token-tls", "constant-tls")
SERVER_CORE, LOAD_CORE = "0", "1"
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def pin(core):
    """Return how to start a process on a core; with REALTIME=1 others wait for it (root only)."""
    realtime = ["chrt", "-f", "1"] if os.environ.get("REALTIME") else []
    return [*realtime, "taskset", "-c", core]


def read_cpu_seconds(group):
    """Return the CPU time that the kernel charged to a process group: in user mode, and in its own."""
    user = system = 0
    for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            if int(fields[2]) == group:
                user += int(fields[11])
                system += int(fields[12])
    return user / TICKS_PER_SECOND, system / TICKS_PER_SECOND


def prepare_peers(candidates):
    """Install what the chosen peers need, outside the tree."""
    if "local-kms" in candidates:
        build_go_program(LOCAL_KMS, _local_kms())
    if "moto" in candidates and not _moto().exists():
        print(f"==> installing {MOTO} (half a minute)", flush=True)
        venv = _moto().parents[1]
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        subprocess.run([venv / "bin" / "python", "-m", "pip", "install", "-q", MOTO], check=True)


def build_go_program(module, path):
    """Build a Go program, outside the tree, unless it is there."""
    if not path.exists():
        print(f"==> building {'@'.join(module)} (half a minute)", flush=True)
        environment = {**os.environ, "GOBIN": str(path.parent), "CGO_ENABLED": "0", "GOFLAGS": "-mod=mod"}
        subprocess.run(["go", "install", "@".join(module)], env=environment, check=True)


def find_vegeta():
    return CACHE / "peers" / f"vegeta-{VEGETA[1]}" / "vegeta"


def _local_kms():
    return CACHE / "peers" / LOCAL_KMS[1] / "local-kms"


def _moto():
    return CACHE / "peers" / MOTO.replace("[server]", "") / "bin" / "moto_server"


def _build_command(candidate, port, folder):
    match candidate:
        case "own":
            secret = folder / "secret"
            secret.write_text(SECRET_KEY)
            arguments = ["--local", "--listen", f"127.0.0.1:{port}", "--region", REGION]
            arguments += ["--access-key-id", ACCESS_KEY, "--secret-access-key-file", str(secret)]
            return [sys.executable, "-m", "datakeys.keyservice", *arguments]
        case "own-token" | "own-token-tls":
            mode = ["tls"] if candidate.endswith("tls") else []
            return [sys.executable, str(HERE / "cluster_mode.py"), str(port), str(folder), *mode]
        case "constant" | "constant-tls":
            mode = ["tls"] if candidate.endswith("tls") else []
            return [sys.executable, str(HERE / "constant.py"), str(port), *mode]
        case "local-kms":
            return [str(_local_kms())]
        case "moto":
            return [str(_moto()), "-H", "127.0.0.1", "-p", str(port)]
    raise ValueError(candidate)


class Server:
    """One running server on its core; a context manager."""

    def __init__(self, candidate, folder, core=SERVER_CORE):
        self.candidate, self.folder = candidate, folder
        self.port = find_free_port()
        self.url = f"{'https' if candidate.endswith('tls') else 'http'}://127.0.0.1:{self.port}"
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT / "operator"), str(ROOT / "tests" / "support")]),
            "PORT": str(self.port),
            "KMS_REGION": REGION,
            "KMS_DATA_PATH": str(folder),
        }
        # What it writes goes to a file: an audit record per request is part of the work.
        self._output = (folder / "output.log").open("w")
        self._process = subprocess.Popen(
            [*pin(core), *_build_command(candidate, self.port, folder)],
            env=environment,
            start_new_session=True,
            stdout=self._output,
            stderr=subprocess.STDOUT,
        )
        self._wait_until_listening()

    def _wait_until_listening(self):
        for _ in range(400):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise SystemExit("the server does not listen: see its output")

    def client(self):
        """Return an AWS SDK's client of this server."""
        return boto3.client(
            "kms",
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            config=Config(retries={"total_max_attempts": 1}),
        )

    def cpu_seconds(self):
        return sum(self.cpu_seconds_by_mode())

    def cpu_seconds_by_mode(self):
        return read_cpu_seconds(self._process.pid)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._output.close()


def require_tools():
    missing = [tool for tool in ("wrk", "taskset") if not shutil.which(tool)]
    if missing:
        raise SystemExit(f"needs {', '.join(missing)} on PATH (Debian packages wrk, util-linux)")
