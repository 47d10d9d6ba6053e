"""Authentication and authorization: JWTs, grants, policy, revocations, origins.

All modules but `jwks` and `jwt_verifier` do no I/O. None depends on connections.
"""
