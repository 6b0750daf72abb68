"""A gRPC health server and client, with the reference implementation of grpc.health.v1.

    health.py serve PORT                 empty name and shop.Cart SERVING, shop.Down NOT_SERVING
    health.py check ADDRESS [SERVICE]…   prints a JSON object: service -> status, or status code
    health.py watch ADDRESS SERVICE      prints each status as it comes, one on a line
"""

import json
import sys
from concurrent import futures

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

TIMEOUT_SECONDS = 5


def serve(port):
    statuses = health_pb2.HealthCheckResponse
    servicer = health.HealthServicer()
    servicer.set("", statuses.SERVING)
    servicer.set("shop.Cart", statuses.SERVING)
    servicer.set("shop.Down", statuses.NOT_SERVING)
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    if server.add_insecure_port(f"127.0.0.1:{port}") != int(port):
        sys.exit(f"port {port} is taken")
    server.start()
    server.wait_for_termination()


def name(status):
    return health_pb2.HealthCheckResponse.ServingStatus.Name(status)


def check(address, *services):
    found = {}
    with grpc.insecure_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for service in services:
            request = health_pb2.HealthCheckRequest(service=service)
            try:
                found[service] = name(stub.Check(request, timeout=TIMEOUT_SECONDS).status)
            except grpc.RpcError as error:
                found[service] = error.code().name
    print(json.dumps(found))


def watch(address, service):
    with grpc.insecure_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for answer in stub.Watch(health_pb2.HealthCheckRequest(service=service)):
            print(name(answer.status), flush=True)


if __name__ == "__main__":
    {"serve": serve, "check": check, "watch": watch}[sys.argv[1]](*sys.argv[2:])
