"""Authentication and authorization: JWTs, grants, policy, revocations, origins.

All of it but `jwks` and `jwt_verifier` is decided without I/O. It knows nothing of connections.
"""
