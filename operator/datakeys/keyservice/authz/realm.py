"""What differs between a cluster and the local mode: the spelling of ARNs and of principals.

Zone: pure. In a cluster account = namespace and Region = cluster name. The local mode speaks as AWS does,
with accounts of 12 digits. Source: docs/architecture.md, "Names and addresses"; AWS IAM, "IAM ARNs".
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from datakeys.contract.arn import PARTITION, build_alias_arn, build_key_arn

AWS_PARTITION: Final = "aws"

_SERVICE_ACCOUNT: Final = re.compile(r"system:serviceaccount:[a-z0-9-]{1,63}:[a-z0-9.-]{1,253}")
_AWS_PRINCIPAL: Final = re.compile(
    r"arn:aws[a-z-]*:(iam|sts)::\d{12}:(root|(user|role|federated-user|assumed-role)/[\w+=,.@/-]+)", re.ASCII
)


@dataclass(frozen=True, slots=True)
class Realm:
    """Where the service runs.

    Attributes:
        region: The cluster's name, or an AWS Region.
        partition: ``k8s``, or ``aws`` in the local mode.
    """

    region: str
    partition: str = PARTITION

    @property
    def is_cluster(self) -> bool:
        """Return whether accounts are namespaces of a cluster."""
        return self.partition == PARTITION

    def key_arn(self, account: str, key_id: str) -> str:
        """Return a key's ARN."""
        return _build_key_arn(self.region, account, key_id, partition=self.partition)

    def alias_arn(self, account: str, name: str) -> str:
        """Return an alias's ARN; ``name`` has its prefix ``alias/``."""
        return build_alias_arn(self.region, account, name, partition=self.partition)

    def root_arn(self, account: str) -> str:
        """Return the ARN that stands for a whole account in a key policy."""
        return f"arn:{self.partition}:iam::{account}:root"

    def is_principal(self, text: str) -> bool:
        """Return whether a grant can name this principal."""
        pattern = _SERVICE_ACCOUNT if self.is_cluster else _AWS_PRINCIPAL
        return pattern.fullmatch(text) is not None


_build_key_arn: Final = lru_cache(maxsize=8192)(build_key_arn)
