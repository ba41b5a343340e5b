"""Re-encrypts the data keys of one DataKeyRequest, in its status. Zone: ciphertext only.

The key service opens and closes them; what comes back differs in nothing but the ciphertext. The Secrets
follow the status, as after every other difference between the two.
"""

from dataclasses import dataclass

from datakeys.contract.errors import KeyUnavailableError, KmsError
from datakeys.controller.decisions.data_key_versions import DataKeyVersion, find_outdated
from datakeys.controller.decisions.failure import FailedAttempt, describe_kms_error
from datakeys.controller.decisions.request_view import RequestView
from datakeys.controller.handlers.request_status import StatusWriter
from datakeys.controller.keyservice_client import KeyServiceClient
from datakeys.controller.kube.errors import KubeError, MissingError
from datakeys.controller.re_encryption_turns import Turn


@dataclass(frozen=True)
class DataKeyReEncrypter:
    """Carries out turns."""

    keyservice: KeyServiceClient
    statuses: StatusWriter

    async def re_encrypt(self, request: RequestView, turn: Turn) -> FailedAttempt | None:
        """Bring a request's data keys under the current material; return how that failed, or None."""
        outdated = find_outdated(request.versions, key_arn=turn.key_arn, material_id=turn.material_id)
        if not outdated:
            return None
        try:
            versions = [
                await self._renew(request, version) if version in outdated else version
                for version in request.versions
            ]
            await self.statuses.write_re_encrypted(request, versions)
        except KmsError as error:
            return describe_kms_error(error)
        except MissingError:
            return None
        except KubeError as error:
            return FailedAttempt("KubernetesAPI", f"Kubernetes API: {error}", retryable=True)
        return None

    async def _renew(self, request: RequestView, version: DataKeyVersion) -> DataKeyVersion:
        renewed = await self.keyservice.re_encrypt(request.key.namespace, version.encrypted)
        if renewed.key_material_id == version.encrypted.key_material_id:
            raise KeyUnavailableError("this replica of the key service hasn't heard of the rotation yet")
        return version.re_encrypted(renewed)
