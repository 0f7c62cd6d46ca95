"""The zygote and the children. Nothing here imports etcd3, grpc or mpfora.supervisor; asyncio only for an async handler."""
