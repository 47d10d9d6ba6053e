"""Who we are to Kafka, and how we know that it is Kafka."""

from __future__ import annotations

import attrs

from odin_ws.settings.kinds import OPTIONAL_TEXT, secret, setting
from odin_ws.settings.secrets import Secret

__all__ = ["KafkaSecuritySettings"]


@attrs.frozen(slots=False)  # several are bases of one class
class KafkaSecuritySettings:
    """See odin_ws.settings.Settings."""

    kafka_sasl_username: str = setting(
        "KAFKA_SASL_USERNAME", "", OPTIONAL_TEXT, "", "the user for PLAIN and SCRAM"
    )
    kafka_sasl_password: Secret | None = secret(
        "KAFKA_SASL_PASSWORD", "the password of KAFKA_SASL_USERNAME"
    )
