{{/*
A policy that lets only those write an object who may also use the key it names, by RBAC on a virtual subresource of
kmskeys in the object's namespace. RBAC resourceNames are compared with what the object writes: see
docs/authorization.md. Takes a dict: root, name, resource, operations, and CEL expressions: condition (optional: when
it is judged at all), permission (the subresource), key (RBAC's name of the key), field (for the message).
*/}}
{{- define "datakeys.permissionPolicy" -}}
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata:
  name: {{ .name }}
  labels:
    {{- include "datakeys.labels" (dict "root" .root) | nindent 4 }}
spec:
  failurePolicy: Fail
  matchConstraints:
    resourceRules:
      - apiGroups: [datakeys.dev]
        apiVersions: ["*"]
        operations: {{ toJson .operations }}
        resources: [{{ .resource }}]
  {{- with .condition }}
  matchConditions:
    - name: uses-a-key
      expression: {{ . | quote }}
  {{- end }}
  variables:
    - name: permission
      expression: {{ .permission | quote }}
    - name: key
      expression: {{ .key | quote }}
    - name: field
      expression: {{ .field | quote }}
  validations:
    - expression: >-
        authorizer.group('datakeys.dev').resource('kmskeys').subresource(variables.permission)
        .namespace(request.namespace).name(variables.key).check('create').allowed()
      reason: Forbidden
      message: The user has no permission on the key that the object names.
      messageExpression: >-
        'user "' + request.userInfo.username + '" may not create kmskeys/' + variables.permission + ' on key "' +
        variables.key + '" in namespace "' + request.namespace + '", named by ' + variables.field +
        '; RBAC allows it with apiGroups datakeys.dev, resources kmskeys/' + variables.permission +
        ', verbs create, and resourceNames empty or with that name'
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata:
  name: {{ .name }}
  labels:
    {{- include "datakeys.labels" (dict "root" .root) | nindent 4 }}
spec:
  policyName: {{ .name }}
  validationActions: [Deny]
{{- end }}
