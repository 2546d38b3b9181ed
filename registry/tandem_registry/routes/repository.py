"""/admin/v1/repository: artifacts, uploads, files."""

from collections.abc import Iterator
from typing import Annotated

from fastapi import APIRouter, Header, Request, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool
from tandem_api.registry import Artifact, Deleted, NewArtifact, NewUpload, Page, Upload

from tandem_registry.artifacts import Artifacts
from tandem_registry.failures import Failure
from tandem_registry.paging import LIMIT, Cursor, Limit
from tandem_registry.ranges import Range, parse_range
from tandem_registry.routes.common import ArtifactHere, CallerHere, NameHere, Sha256Here, failing
from tandem_registry.storage import Storage
from tandem_registry.uploads import Uploads


def repository_routes(storage: Storage, uploads: Uploads, artifacts: Artifacts) -> APIRouter:
    """The routes."""
    routes = APIRouter(prefix="/admin/v1/repository", tags=["repository"])

    @routes.post("/uploads", status_code=201, responses=failing(413))
    def create_upload(given: NewUpload, caller: CallerHere, response: Response) -> Upload:
        """Begin to upload a file. `complete` is true at once where the repository has it already.

        200 for an upload of the same file that you have begun before: carry it on from its offset.
        """
        upload, fresh = uploads.create(given, caller)
        response.status_code = 201 if fresh else 200
        return upload

    @routes.get("/uploads/{id}", responses=failing(404))
    def get_upload(id: NameHere, response: Response) -> Upload:
        """Tell where to carry an upload on."""
        upload = uploads.get(id)
        response.headers["Upload-Offset"] = str(upload.offset)
        return upload

    @routes.patch("/uploads/{id}", responses=failing(404, 408, 409))
    async def carry_on(
        id: NameHere,
        request: Request,
        response: Response,
        upload_offset: Annotated[int, Header(ge=0, description="Of the body's first byte: what the upload is at.")],
    ) -> Upload:
        """Send the bytes from Upload-Offset on, all that are left or some. The last of them finishes the upload."""
        upload = await uploads.receive(id, upload_offset, request.stream())
        response.headers["Upload-Offset"] = str(upload.offset)
        return upload

    @routes.delete("/uploads/{id}", responses=failing(404, 409))
    def abort(id: NameHere) -> Deleted:
        """Throw an upload away."""
        uploads.abort(id)
        return Deleted(id=id, object="upload")

    @routes.get("/models")
    def list_artifacts(limit: Limit = LIMIT, cursor: Cursor = None) -> Page[Artifact]:
        """List artifacts by id."""
        return artifacts.page(limit, cursor)

    @routes.get("/models/{id:path}", responses=failing(404))
    def get_artifact(id: ArtifactHere) -> Artifact:
        """Show an artifact."""
        return artifacts.get(id)

    @routes.put("/models/{id:path}", status_code=201, responses=failing(409))
    def put_artifact(id: ArtifactHere, given: NewArtifact, caller: CallerHere, response: Response) -> Artifact:
        """Make an artifact of uploaded files. 200 where the same one is there already."""
        artifact, fresh = artifacts.put(id, given, caller)
        response.status_code = 201 if fresh else 200
        return artifact

    @routes.delete("/models/{id:path}", responses=failing(404, 409))
    def delete_artifact(id: ArtifactHere) -> Deleted:
        """Delete an artifact that no version has."""
        artifacts.delete(id)
        return Deleted(id=id, object="model")

    @routes.get("/files/{sha256}", response_class=StreamingResponse, responses=failing(404, 416))
    @routes.head("/files/{sha256}", include_in_schema=False)
    async def get_file(
        sha256: Sha256Here,
        request: Request,
        range: Annotated[str | None, Header()] = None,
        if_range: Annotated[str | None, Header()] = None,
    ) -> Response:
        """Download a file, or a range of it."""
        content = await run_in_threadpool(artifacts.content, sha256)
        etag = f'"{sha256}"'
        asked = parse_range(range, content.size) if if_range in (None, etag) else Range.whole(content.size)
        if asked is None:
            raise Failure(
                416,
                "range_not_satisfiable",
                f"Range: the file has {content.size:,} bytes",
                "Range",
                Content_Range=f"bytes */{content.size}",
            )
        headers = {"ETag": etag, "Accept-Ranges": "bytes", "Content-Length": str(asked.end - asked.start)}
        if asked.partial:
            headers["Content-Range"] = f"bytes {asked.start}-{asked.end - 1}/{content.size}"
        status = 206 if asked.partial else 200
        media = "application/octet-stream"
        if request.method == "HEAD":
            return Response(status_code=status, headers=headers, media_type=media)
        pieces = content.read(storage, asked.start, asked.end)
        # The first piece before the answer: a storage that does not answer is still told as an error.
        first = await run_in_threadpool(next, pieces, b"")
        return StreamingResponse(_after(first, pieces), status, headers, media)

    return routes


def _after(first: bytes, pieces: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from pieces
