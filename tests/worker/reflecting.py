"""What a gRPC server says of itself."""

import grpc.aio
from grpc_reflection.v1alpha import reflection_pb2 as pb

METHOD = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"


async def reflected(channel: grpc.aio.Channel) -> list[str]:
    """The services that it names by reflection.

    The one question is asked as if by a unary call. Of a stream that the server refuses, grpc.aio tells the status only
    to whoever does not write to it meanwhile: that is INTERNAL.
    """
    ask = channel.unary_unary(
        METHOD, pb.ServerReflectionRequest.SerializeToString, pb.ServerReflectionResponse.FromString
    )
    answer = await ask(pb.ServerReflectionRequest(list_services=""), timeout=60)
    return [service.name for service in answer.list_services_response.service]
