"""Object storage: multipart uploads that go straight to S3, checks of what arrived, links that expire.

Nothing in the bucket is public. While S3 does not answer, calls raise `ServiceUnavailable`; a call about what is not
there raises `ObjectMissing`, a wrong list of parts `PartsRefused`.
"""

import hashlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Protocol, TypeVar

import boto3
from anyio import CapacityLimiter, to_thread
from botocore.config import Config
from botocore.exceptions import ClientError, HTTPClientError
from botocore.exceptions import ConnectionError as UnreachableError

from core.settings import S3Settings
from domain.errors import ServiceUnavailable

T = TypeVar("T")

_CHUNK: Final = 1024**2
_GONE: Final = frozenset({"NoSuchUpload", "NoSuchKey", "404", "NotFound"})
_BAD_PARTS: Final = frozenset({"InvalidPart", "InvalidPartOrder", "EntityTooSmall", "MalformedXML"})


class ObjectMissing(Exception):
    """There is no such object, or no such multipart upload."""


class PartsRefused(Exception):
    """S3 does not have the parts named, or not with these ETags."""


@dataclass(frozen=True, slots=True)
class Part:
    """An uploaded part: its number from 1 and the ETag S3 answered."""

    number: int
    etag: str


@dataclass(frozen=True, slots=True)
class SignedLink:
    """A URL that needs no credentials until `expires_at`."""

    url: str
    expires_at: datetime


class ObjectStorage(Protocol):
    """What the product asks of S3. Keys are ours; sizes and ranges are bytes."""

    async def ensure_bucket(self, *, origins: Sequence[str] = ()) -> None:
        """Creates the private bucket unless it is there, and lets browsers of `origins` upload."""

    async def ping(self) -> None:
        """Raises unless the bucket answers."""

    async def start_multipart(self, key: str, content_type: str) -> str:
        """Begins an upload in parts; its id."""

    async def part_links(self, key: str, multipart_id: str, sizes: Sequence[int]) -> list[SignedLink]:
        """One link per part to PUT exactly so many bytes to."""

    async def finish_multipart(self, key: str, multipart_id: str, parts: Sequence[Part]) -> None:
        """Puts the parts together. Raises `PartsRefused`, or `ObjectMissing` for no (longer an) upload."""

    async def size(self, key: str) -> int:
        """The stored size. Raises `ObjectMissing`."""

    async def head(self, key: str, length: int) -> bytes:
        """The first `length` bytes. Raises `ObjectMissing`."""

    async def sha256(self, key: str) -> str:
        """The hex digest of the stored bytes, streamed. Raises `ObjectMissing`."""

    async def link(self, key: str, *, content_type: str, disposition: str) -> SignedLink:
        """A short-lived link to read the object, answered with these headers."""

    async def discard(self, key: str) -> None:
        """Removes the object and every unfinished upload to its key; removing nothing is fine."""


class S3Storage:
    """`ObjectStorage` on boto3, in threads. Signing needs no network, so links are made while S3 is down."""

    def __init__(self, settings: S3Settings) -> None:
        self._settings = settings
        self._bucket = settings.bucket
        self._lock = threading.Lock()
        self._clients: tuple[Any, Any] | None = None
        self._links: dict[tuple[str, str], SignedLink] = {}
        self._calls = CapacityLimiter(16)
        self._streams = CapacityLimiter(4)

    def _connected(self) -> tuple[Any, Any]:
        """The client that calls and the one that signs links for the outside; made once, on first use."""
        with self._lock:
            if self._clients is None:
                inside = self._settings.endpoint_url or None
                outside = self._settings.public_endpoint_url or inside
                caller = self._client(inside)
                self._clients = caller, caller if outside == inside else self._client(outside)
            return self._clients

    def _client(self, endpoint: str | None) -> Any:
        settings = self._settings
        return boto3.session.Session().client(
            "s3",
            endpoint_url=endpoint,
            region_name=settings.region,
            aws_access_key_id=settings.access_key.get_secret_value() or None,
            aws_secret_access_key=settings.secret_key.get_secret_value() or None,
            config=Config(
                signature_version="s3v4",
                s3={"addressing_style": "path" if endpoint else "auto"},
                connect_timeout=2,
                read_timeout=10,
                retries={"mode": "standard", "total_max_attempts": 2},
                max_pool_connections=20,
                # Browsers send no CRC: without this, links would ask for one.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )

    async def _call(self, work: Callable[[Any], T], *, limiter: CapacityLimiter | None = None) -> T:
        def run() -> T:
            try:
                return work(self._connected()[0])
            except ClientError as error:
                refusal = _translated(error)
                if refusal is None:
                    raise
                raise refusal from error
            except (HTTPClientError, UnreachableError) as error:
                raise _unavailable() from error

        return await to_thread.run_sync(run, limiter=limiter or self._calls)

    async def ensure_bucket(self, *, origins: Sequence[str] = ()) -> None:
        def work(client: Any) -> None:
            try:
                client.head_bucket(Bucket=self._bucket)
            except ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
                    raise
                self._create_bucket(client)
            if origins:
                rule = {
                    "AllowedOrigins": list(origins),
                    "AllowedMethods": ["GET", "HEAD", "PUT"],
                    "AllowedHeaders": ["*"],
                    "ExposeHeaders": ["ETag"],
                    "MaxAgeSeconds": 3600,
                }
                client.put_bucket_cors(Bucket=self._bucket, CORSConfiguration={"CORSRules": [rule]})

        await self._call(work)

    def _create_bucket(self, client: Any) -> None:
        region = self._settings.region
        where = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        try:
            client.create_bucket(Bucket=self._bucket, **where)
        except ClientError as error:
            if error.response["Error"]["Code"] not in {"BucketAlreadyOwnedByYou", "BucketAlreadyExists"}:
                raise

    async def ping(self) -> None:
        await self._call(lambda client: client.head_bucket(Bucket=self._bucket))

    async def start_multipart(self, key: str, content_type: str) -> str:
        def work(client: Any) -> str:
            answer = client.create_multipart_upload(Bucket=self._bucket, Key=key, ContentType=content_type)
            return str(answer["UploadId"])

        return await self._call(work)

    async def part_links(self, key: str, multipart_id: str, sizes: Sequence[int]) -> list[SignedLink]:
        ttl = self._settings.upload_ttl
        expires_at = datetime.fromtimestamp(int(time.time()) + ttl, UTC)

        def work() -> list[SignedLink]:
            signer = self._connected()[1]
            target = {"Bucket": self._bucket, "Key": key, "UploadId": multipart_id}
            return [
                SignedLink(
                    signer.generate_presigned_url(
                        "upload_part",
                        # The length is signed: nobody stores more than was declared.
                        Params={**target, "PartNumber": number, "ContentLength": size},
                        ExpiresIn=ttl,
                    ),
                    expires_at,
                )
                for number, size in enumerate(sizes, start=1)
            ]

        return await to_thread.run_sync(work, limiter=self._calls)

    async def finish_multipart(self, key: str, multipart_id: str, parts: Sequence[Part]) -> None:
        listed = [{"PartNumber": part.number, "ETag": part.etag} for part in parts]
        await self._call(
            lambda client: client.complete_multipart_upload(
                Bucket=self._bucket, Key=key, UploadId=multipart_id, MultipartUpload={"Parts": listed}
            )
        )

    async def size(self, key: str) -> int:
        return await self._call(lambda client: int(client.head_object(Bucket=self._bucket, Key=key)["ContentLength"]))

    async def head(self, key: str, length: int) -> bytes:
        def work(client: Any) -> bytes:
            answer = client.get_object(Bucket=self._bucket, Key=key, Range=f"bytes=0-{length - 1}")
            return bytes(answer["Body"].read())

        return await self._call(work)

    async def sha256(self, key: str) -> str:
        def work(client: Any) -> str:
            digest = hashlib.sha256()
            for chunk in client.get_object(Bucket=self._bucket, Key=key)["Body"].iter_chunks(_CHUNK):
                digest.update(chunk)
            return digest.hexdigest()

        return await self._call(work, limiter=self._streams)

    async def link(self, key: str, *, content_type: str, disposition: str) -> SignedLink:
        # Signing takes half a millisecond, and a lesson is read by many: a link serves for half of its life.
        ttl = self._settings.link_ttl
        known = self._links.get((key, disposition))
        if known is not None and known.expires_at.timestamp() - time.time() > ttl / 2:
            return known
        if len(self._links) >= 4096:
            self._links.clear()
        params = {
            "Bucket": self._bucket,
            "Key": key,
            "ResponseContentType": content_type,
            "ResponseContentDisposition": disposition,
        }
        expires_at = datetime.fromtimestamp(int(time.time()) + ttl, UTC)

        def work() -> str:
            return str(self._connected()[1].generate_presigned_url("get_object", Params=params, ExpiresIn=ttl))

        link = SignedLink(await to_thread.run_sync(work, limiter=self._calls), expires_at)
        self._links[key, disposition] = link
        return link

    async def discard(self, key: str) -> None:
        def work(client: Any) -> None:
            listed = client.list_multipart_uploads(Bucket=self._bucket, Prefix=key)
            for upload in listed.get("Uploads", ()):
                if upload["Key"] == key:
                    client.abort_multipart_upload(Bucket=self._bucket, Key=key, UploadId=upload["UploadId"])
            client.delete_object(Bucket=self._bucket, Key=key)

        await self._call(work)


def _translated(error: ClientError) -> Exception | None:
    code = error.response.get("Error", {}).get("Code", "")
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code in _GONE:
        return ObjectMissing(code)
    if code in _BAD_PARTS:
        return PartsRefused(code)
    if status >= 500 or code in {"SlowDown", "RequestTimeout"}:
        return _unavailable()
    return None


def _unavailable() -> ServiceUnavailable:
    return ServiceUnavailable("The object storage does not answer at the moment. Try again shortly.")
