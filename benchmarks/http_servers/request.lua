-- A request like an AWS SDK's, with a ServiceAccount token of usual length.
wrk.method = "POST"
wrk.path = "/"
wrk.headers["Content-Type"] = "application/x-amz-json-1.1"
wrk.headers["X-Amz-Target"] = "TrentService.GenerateDataKeyWithoutPlaintext"
wrk.headers["Authorization"] = "Bearer " .. string.rep("a", 900)
wrk.headers["User-Agent"] = "datakey-operator/0.1"
wrk.body = '{"KeyId":"arn:k8s:kms:c:n:key/00000000-0000-0000-0000-000000000000","KeySpec":"AES_256",' ..
  '"EncryptionContext":{"namespace":"payments","name":"ledger"}}'
