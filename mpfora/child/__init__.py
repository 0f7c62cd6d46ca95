"""The zygote and the children. Nothing here imports etcd3, grpc or mpfora.supervisor; asyncio only an async handler."""
