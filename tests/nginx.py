"""Debian's nginx with docs/nginx.conf.sample: only ports and certificate paths are put in place."""

import asyncio
import datetime
import os
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.ports import free_port
from tests.services import missing

SAMPLE = Path(__file__).parents[1] / "docs" / "nginx.conf.sample"
HOSTS = ("px.example.org", "example.org")
START_SECONDS = 60
#: In the folder of its own that it runs in.
TEMP_PATHS = """\
    client_body_temp_path temp-body;
    proxy_temp_path temp-proxy;
    fastcgi_temp_path temp-fastcgi;
    uwsgi_temp_path temp-uwsgi;
    scgi_temp_path temp-scgi;
"""
MAIN = """
{user}
daemon off;
worker_processes 1;
pid nginx.pid;
error_log error.log warn;
events {{}}
http {{
{temp_paths}    access_log access.log;
    include sample.conf;
}}
"""


@dataclass(frozen=True)
class Nginx:
    """A running nginx: where it listens and whom a client may trust."""

    home: Path
    port: int
    trust: ssl.SSLContext

    def url(self, path: str) -> str:
        """The address of a path; send it with one of HOSTS as Host and as server name."""
        return f"https://127.0.0.1:{self.port}{path}"


def certify(home: Path) -> ssl.SSLContext:
    """Write a certificate for HOSTS and return a context that trusts just that."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOSTS[0])])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(h) for h in HOSTS]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    (home / "fullchain.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (home / "privkey.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return ssl.create_default_context(cafile=home / "fullchain.pem")


def configure(home: Path, port: int, upstream_port: int, pass_prefix_on: bool) -> None:
    """Write the main file and the sample with this test's ports and paths."""
    sample = SAMPLE.read_text()
    places = {
        "server 127.0.0.1:8080;": f"server 127.0.0.1:{upstream_port};",
        "listen 443 ssl;": f"listen 127.0.0.1:{port} ssl;",
        "/etc/ssl/px.example.org/": f"{home}/",
    }
    if pass_prefix_on:
        places["proxy_pass http://heliograph/;"] = "proxy_pass http://heliograph;"
    for old, new in places.items():
        assert old in sample, old
        sample = sample.replace(old, new)
    (home / "sample.conf").write_text(sample)
    # Started by root, workers would become a user who cannot enter the test's folder.
    user = "user root;" if os.geteuid() == 0 else ""
    (home / "main.conf").write_text(MAIN.format(user=user, temp_paths=TEMP_PATHS))


async def await_answer(process: subprocess.Popen[bytes], home: Path, port: int) -> None:
    async with asyncio.timeout(START_SECONDS):
        while process.poll() is None:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.05)
                continue
            writer.close()
            return
    raise RuntimeError(f"nginx did not start: {(home / 'error.log').read_text()}")


@asynccontextmanager
async def nginx_before(
    upstream_port: int, home: Path, *, pass_prefix_on: bool = False
) -> AsyncIterator[Nginx]:
    """Run the sample in front of a server on a loopback port, under a folder of the test's."""
    binary = shutil.which("nginx", path=os.environ.get("PATH", os.defpath) + ":/usr/sbin")
    if binary is None:
        missing("nginx is not installed (Debian: apt-get install nginx)")
    home.mkdir(parents=True, exist_ok=True)
    port = free_port()
    trust = certify(home)
    configure(home, port, upstream_port, pass_prefix_on)
    process = subprocess.Popen(
        [binary, "-p", home, "-c", "main.conf", "-e", home / "error.log"],
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        await await_answer(process, home, port)
        yield Nginx(home, port, trust)
        log = (home / "error.log").read_text()
        assert log == "", f"nginx complains:\n{log}"
    finally:
        process.terminate()
        try:
            await asyncio.to_thread(process.wait, START_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
