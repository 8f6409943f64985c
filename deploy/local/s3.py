"""S3 from SeaweedFS: master, volume, filer and gateway in one process, with one identity so that signatures count."""

import json
import os
import tempfile
from pathlib import Path

from deploy.local.probes import NotReady, request
from deploy.local.stack import Stack, script
from deploy.local.tools import Note


async def prepare(stack: Stack, note: Note) -> None:
    """Writes the identities."""
    data = stack.data("s3")
    data.mkdir(parents=True, exist_ok=True)
    identity = {
        "name": "lyceum",
        "credentials": [
            {"accessKey": stack.secrets["LYCEUM_S3__ACCESS_KEY"], "secretKey": stack.secrets["LYCEUM_S3__SECRET_KEY"]}
        ],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    identities = data / "identities.json"
    identities.touch(mode=0o600)
    identities.write_text(json.dumps({"identities": [identity]}))


def _socket(port: int) -> Path:
    """Not in the stack's folder: the path of a socket must be short, and weed ends itself when it is not."""
    return Path(tempfile.gettempdir()) / f"lyceum-{os.getuid()}-{port}.sock"


def command(stack: Stack) -> list[str]:
    data, port = stack.data("s3"), stack.ports
    return [
        *(script("weed"), "server", f"-dir={data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false"),
        *(f"-master.port={port['s3_master']}", f"-master.port.grpc={port['s3_master_grpc']}"),
        *(f"-volume.port={port['s3_volume']}", f"-volume.port.grpc={port['s3_volume_grpc']}", "-volume.max=50"),
        *(f"-filer.port={port['s3_filer']}", f"-filer.port.grpc={port['s3_filer_grpc']}"),
        *("-master.volumeSizeLimitMB=1024", "-volume.fileSizeLimitMB=1024"),
        # A master alone wins its election at once, and nothing waits for it to say goodbye: the defaults are 10 s each.
        *("-master.electionTimeout=500ms", "-master.heartbeatInterval=100ms", "-volume.preStopSeconds=0"),
        *("-s3", "-s3.port.iceberg=0", "-s3.port.lance=0"),
        *(f"-s3.port={port['s3']}", f"-s3.port.grpc={port['s3_grpc']}", f"-s3.config={data / 'identities.json'}"),
        *(f"-filer.localSocket={_socket(port['s3_filer'])}", f"-s3.localSocket={_socket(port['s3'])}"),
    ]


async def ready(stack: Stack) -> None:
    """The gateway answers (403: nobody signed) and the master can give out volumes."""
    status, _ = await request(stack.ports["s3"], "/")
    if status not in (200, 403):
        raise NotReady(f"the gateway says {status}")
    status, body = await request(stack.ports["s3_master"], "/dir/assign")
    if status != 200 or b'"fid"' not in body:
        raise NotReady(f"no volume yet: {body[:200].decode(errors='replace')}")
