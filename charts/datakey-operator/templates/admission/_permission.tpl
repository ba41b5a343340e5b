{{/*
A policy that lets only those write an object who may also use the key it names, by RBAC on a virtual subresource of
kmskeys in the object's namespace. RBAC resourceNames are compared with what the object writes: see
docs/authorization.md. Takes a dict: root, name, resources, operations, groups (optional: of the resources), and CEL
expressions: condition and change (optional: it is judged if both are so), permission (the subresource), key (RBAC's
name of the key), field (for the message), account (optional: a ServiceAccount whose right suffices too, '' for none).
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
      - apiGroups: {{ .groups | default (list "datakeys.dev") | toJson }}
        apiVersions: ["*"]
        operations: {{ toJson .operations }}
        resources: {{ toJson .resources }}
  {{- if .condition }}
  matchConditions:
    - name: uses-a-key
      expression: {{ .condition | quote }}
    {{- with .change }}
    - name: is-a-change
      expression: {{ . | quote }}
    {{- end }}
  {{- end }}
  variables:
    - name: permission
      expression: {{ .permission | quote }}
    - name: key
      expression: {{ .key | quote }}
    {{- with .account }}
    - name: account
      expression: {{ . | quote }}
    {{- end }}
    - name: field
      expression: {{ .field | quote }}
  validations:
    - expression: >-
        authorizer.group('datakeys.dev').resource('kmskeys').subresource(variables.permission)
        .namespace(request.namespace).name(variables.key).check('create').allowed()
        {{- if .account }}
        || (variables.account != '' && authorizer.serviceAccount(request.namespace, variables.account)
        .group('datakeys.dev').resource('kmskeys').subresource(variables.permission)
        .namespace(request.namespace).name(variables.key).check('create').allowed())
        {{- end }}
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
