"""`s3://bucket/prefix`: objects of S3 or of a server that speaks its protocol.

Credentials, region and endpoint are found by boto3's own chain: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a service
account's role, AWS_ENDPOINT_URL. Pinning adds a checksum over all names, sizes and ETags, `?pin=...`; each download
asks for the listed ETag. So an object that is replaced meanwhile is an error, never a mixture.
"""

import base64
import hashlib
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
)
from botocore.exceptions import (
    ConnectionError as NoConnection,
)
from urllib3.exceptions import HTTPError

from tandem_engine.sources.downloading import download, retrying
from tandem_engine.sources.errors import AccessDenied, Changed, InvalidUri, NotFound, SourceError, Transient
from tandem_engine.sources.modelfolder import needed_files
from tandem_engine.sources.naming import safe_name
from tandem_engine.sources.progress import Progress
from tandem_engine.sources.source import Body, RemoteFile, Work, WrittenFile

_URI = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(/(?P<prefix>.*?))?(\?pin=(?P<pin>[0-9a-f]{32}))?")
_MOST_OBJECTS = 10_000
_PIECE = 1 << 16
"""Bytes that are read at once; so many are lost when a line is cut."""
_TRANSIENT_CODES = frozenset({"SlowDown", "RequestTimeout", "RequestTimeTooSkewed", "InternalError", "Throttling"})


@dataclass(frozen=True)
class S3Source:
    """A prefix, pinned or not."""

    bucket: str
    prefix: str
    pin: str | None

    @classmethod
    def parse(cls, uri: str) -> "S3Source":
        """Read `s3://bucket/prefix`, or what `resolve` made of it.

        Raises:
            InvalidUri: it is neither. The text does not repeat the URI, in which people put keys.
        """
        match = _URI.fullmatch(uri)
        if match is None:
            raise InvalidUri(
                "An S3 source is of the form s3://bucket/prefix. Keys and endpoints do not belong there: set "
                "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_ENDPOINT_URL."
            )
        return cls(match["bucket"], (match["prefix"] or "").strip("/"), match["pin"])

    def resolve(self, work: Work) -> "S3Content":
        """List the objects, unless they are pinned: then the listing is compared when it is fetched."""
        if self.pin is not None:
            return S3Content(self.bucket, self.prefix, self.pin)
        work.report(Progress("resolve", _uri(self.bucket, self.prefix)))
        with _Bucket.connect(self.bucket, work) as bucket:
            return S3Content(self.bucket, self.prefix, _pin_of(retrying(work, lambda: bucket.objects(self.prefix))))


@dataclass(frozen=True)
class S3Content:
    """The objects below a prefix as they were when they were listed."""

    bucket: str
    prefix: str
    pin: str

    @property
    def uri(self) -> str:
        return f"{_uri(self.bucket, self.prefix)}?pin={self.pin}"

    @property
    def key(self) -> str:
        return self.uri

    def write(self, folder: Path, work: Work) -> tuple[WrittenFile, ...]:
        """Fetch what a model needs of them.

        Raises:
            Changed: the objects are not those that were pinned.
        """
        with _Bucket.connect(self.bucket, work) as bucket:
            listed = retrying(work, lambda: bucket.objects(self.prefix))
            if _pin_of(listed) != self.pin:
                raise Changed(
                    f"The objects below {_uri(self.bucket, self.prefix)} have changed. Resolve the URI again."
                )
            by_name = {file.name: file for file in listed}
            needed = [by_name[name] for name in needed_files(by_name, self.uri)]
            with ThreadPoolExecutor(work.parallel) as pool:
                files = list(
                    pool.map(lambda file: retrying(work, lambda: bucket.with_digests(file, self.prefix)), needed)
                )
            return download(_Store(bucket, self.prefix), files, folder, work, self.uri)


@dataclass(frozen=True)
class _Bucket:
    """A bucket and a client for it; the client may be used by several threads."""

    name: str
    client: Any  # boto3 makes its clients at run time and has no types for them.

    @classmethod
    @contextmanager
    def connect(cls, name: str, work: Work) -> Iterator["_Bucket"]:
        config = Config(
            connect_timeout=work.timeout,
            read_timeout=work.timeout,
            max_pool_connections=work.parallel + 1,
            retries={"total_max_attempts": 1},  # `retrying` does it, with one policy for all schemes
            response_checksum_validation="when_required",  # the whole file is checked, also when it is resumed
        )
        try:
            with _understood(_uri(name, "")):
                client = boto3.session.Session().client("s3", config=config)
        except ValueError as error:
            raise SourceError("AWS_ENDPOINT_URL is not a URL: write https://host[:port].") from error
        with closing(client):
            yield cls(name, client)

    def objects(self, prefix: str) -> tuple[RemoteFile, ...]:
        """All objects below a prefix, by name."""
        uri = _uri(self.name, prefix)
        start = f"{prefix}/" if prefix else ""
        files: list[RemoteFile] = []
        with _understood(uri):
            for page in self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=start):
                for item in page.get("Contents", ()):
                    name = item["Key"].removeprefix(start)
                    if name and not name.endswith("/"):  # what consoles leave where somebody made a folder
                        files.append(RemoteFile(safe_name(name, uri), item["Size"], version=item["ETag"]))
                if len(files) > _MOST_OBJECTS:
                    raise InvalidUri(f"Over {_MOST_OBJECTS:,} objects are below {uri}. Name the model's own prefix.")
        if not files:
            raise NotFound(f"There is nothing below {uri}/. Check the prefix.")
        return tuple(sorted(files, key=lambda file: file.name))

    def with_digests(self, file: RemoteFile, prefix: str) -> RemoteFile:
        """Add the checksums that S3 has of a whole object; it has none of some that were uploaded in parts."""
        with _understood(file.name):
            head = self.client.head_object(
                Bucket=self.name, Key=_key(prefix, file), IfMatch=file.version, ChecksumMode="ENABLED"
            )
        return RemoteFile(file.name, file.size, digests_of(head, file.version), file.version)


@dataclass(frozen=True)
class _Store:
    bucket: _Bucket
    prefix: str

    @contextmanager
    def open(self, file: RemoteFile, start: int) -> Iterator[Body]:
        ranged = {"Range": f"bytes={start}-"} if start else {}
        with _understood(file.name):
            response = self.bucket.client.get_object(
                Bucket=self.bucket.name, Key=_key(self.prefix, file), IfMatch=file.version, **ranged
            )
            with closing(response["Body"]) as body:
                yield Body(start if "ContentRange" in response else 0, body.iter_chunks(_PIECE))


@contextmanager
def _understood(what: str) -> Iterator[None]:
    """Turn the library's errors into ours. Ours quote no address: it can be signed."""
    try:
        yield
    except ClientError as error:
        raise _failed(error, what) from error
    except (NoCredentialsError, PartialCredentialsError) as error:
        raise AccessDenied(
            f"There are no AWS credentials for {what}. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (in a cluster: "
            "by the version's sourceSecret), or give the service account a role."
        ) from error
    except (NoConnection, HTTPClientError, IncompleteReadError, HTTPError) as error:
        raise Transient(f"S3 does not answer for {what} ({type(error).__name__})") from error
    except BotoCoreError as error:
        raise SourceError(
            f"The S3 client can't be used for {what} ({type(error).__name__}). Check the AWS_ variables."
        ) from error


def _failed(error: ClientError, what: str) -> Exception:
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    code = str(error.response.get("Error", {}).get("Code", status))
    if status == 412:
        return Changed(f"{what} was replaced while it was fetched. Resolve the URI again.")
    if status >= 500 or status in (408, 429) or code in _TRANSIENT_CODES:
        return Transient(f"S3 answered {code} for {what}")
    if code == "NoSuchBucket":
        return NotFound(f"There is no bucket of {what}. Check its name, AWS_ENDPOINT_URL and AWS_REGION.")
    if status == 404:
        return NotFound(f"{what} is not there (any more). Check the prefix, then resolve the URI again.")
    if status in (401, 403):
        return AccessDenied(
            f"S3 refuses {what} ({code}). Check the credentials, and that they allow s3:ListBucket and s3:GetObject."
        )
    return SourceError(f"S3 answered {code} for {what}. Check AWS_ENDPOINT_URL and AWS_REGION.")


def digests_of(head: Mapping[str, Any], etag: str) -> dict[str, str]:
    """The checksums of an object's whole content, from the answer to HeadObject and the ETag."""
    digests: dict[str, str] = {}
    if head.get("ChecksumType", "FULL_OBJECT") == "FULL_OBJECT":
        for algorithm, field in (("sha256", "ChecksumSHA256"), ("crc32", "ChecksumCRC32")):
            value = head.get(field, "")
            if value and "-" not in value:
                digests[algorithm] = base64.b64decode(value).hex()
    plain = etag.strip('"')
    # With a key of KMS or of the customer, and for uploads in parts, the ETag is something else than the MD5.
    if re.fullmatch(r"[0-9a-f]{32}", plain) and head.get("ServerSideEncryption", "AES256") == "AES256":
        digests |= {} if "SSECustomerAlgorithm" in head else {"md5": plain}
    return digests


def _pin_of(files: tuple[RemoteFile, ...]) -> str:
    listing = "".join(f"{file.name}\0{file.size}\0{file.version}\n" for file in files)
    return hashlib.sha256(listing.encode()).hexdigest()[:32]


def _key(prefix: str, file: RemoteFile) -> str:
    return f"{prefix}/{file.name}" if prefix else file.name


def _uri(bucket: str, prefix: str) -> str:
    return f"s3://{bucket}/{prefix}" if prefix else f"s3://{bucket}"
