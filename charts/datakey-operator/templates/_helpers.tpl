{{/*
Names are fixed, so there is no fullname helper. Helpers that render one process take
(dict "root" $ "process" "controller").
*/}}

{{/* Name of a process' ServiceAccount, Deployment, Service and roles. */}}
{{- define "datakeys.name" -}}
datakeys-{{ .process }}
{{- end }}

{{- define "datakeys.selectorLabels" -}}
app.kubernetes.io/name: datakey-operator
app.kubernetes.io/component: {{ .process }}
{{- end }}

{{/* Labels of every object; without a process: of an object that belongs to none. */}}
{{- define "datakeys.labels" -}}
app.kubernetes.io/name: datakey-operator
{{- with .process }}
app.kubernetes.io/component: {{ . }}
{{- end }}
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: datakey-operator
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | quote }}
{{- end }}

{{/* The checks a JSON schema can't make. Rendered by every Deployment. */}}
{{- define "datakeys.validate" -}}
{{- if not .Values.clusterName }}
{{- fail "clusterName is required: it is the Region of every key ARN and can't be changed once keys exist" }}
{{- end }}
{{- range dig "spec" "template" "spec" "containers" list (lookup "apps/v1" "Deployment" .Release.Namespace "datakeys-keyservice") }}
{{- range .env }}
{{- if and (eq .name "DATAKEYS_CLUSTER_NAME") (ne .value $.Values.clusterName) }}
{{- fail (printf "clusterName is %q here and can't become %q: under another name none of the keys could be used, and no data key decrypted" .value $.Values.clusterName) }}
{{- end }}
{{- end }}
{{- end }}
{{- if eq .Release.Namespace "kube-system" }}
{{- fail "install datakey-operator into a namespace of its own: key records must not share kube-system with others" }}
{{- end }}
{{- with .Values.certificates }}
{{- if or (gt (mul 3 .leafHours) (int64 .caHours)) (gt (mul 6 .overlapHours) (int64 .caHours)) }}
{{- fail "certificates: caHours must be at least 3 times leafHours and 6 times overlapHours" }}
{{- end }}
{{- if and .webhook.certManager.enabled (not .webhook.certManager.issuerRef.name) }}
{{- fail "certificates.webhook.certManager.issuerRef.name is required: the Issuer or ClusterIssuer that makes the webhook's certificate" }}
{{- end }}
{{- end }}
{{- $webhooks := lookup "admissionregistration.k8s.io/v1" "MutatingWebhookConfiguration" "" "datakeys-webhook" }}
{{- if $webhooks }}
{{- $owner := $webhooks.metadata.annotations | default dict }}
{{- $name := index $owner "meta.helm.sh/release-name" | default .Release.Name }}
{{- $namespace := index $owner "meta.helm.sh/release-namespace" | default .Release.Namespace }}
{{- if or (ne $name .Release.Name) (ne $namespace .Release.Namespace) }}
{{- fail (printf "datakey-operator is already installed as release %q in namespace %q: object names are fixed, a cluster takes one release" $name $namespace) }}
{{- end }}
{{- end }}
{{- end }}

{{/* Reference of a process' image. */}}
{{- define "datakeys.image" -}}
{{- $image := (index .root.Values .process).image }}
{{- $registry := $image.registry | default .root.Values.image.registry }}
{{- with $registry }}{{ . }}/{{ end }}{{ $image.repository }}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ $image.tag | default .root.Values.image.tag | default .root.Chart.AppVersion }}{{ end }}
{{- end }}

{{- define "datakeys.imagePullPolicy" -}}
{{- (index .root.Values .process).image.pullPolicy | default .root.Values.image.pullPolicy }}
{{- end }}

{{/* Namespaces without data keys: the system namespace, kube-system and those of the values, as JSON. */}}
{{- define "datakeys.excludedNamespaces" -}}
{{- concat (list .Release.Namespace "kube-system") .Values.excludedNamespaces | uniq | toJson }}
{{- end }}

{{- define "datakeys.keyserviceUrl" -}}
https://datakeys-keyservice.{{ .Release.Namespace }}.svc:443
{{- end }}

{{- define "datakeys.podAnnotations" -}}
{{- $annotations := dict }}
{{- if .root.Values.metrics.annotations }}
{{- $annotations = dict "prometheus.io/scrape" "true" "prometheus.io/port" "9443" "prometheus.io/path" "/metrics" "prometheus.io/scheme" "http" }}
{{- end }}
{{- with mustMergeOverwrite (dict) $annotations (index .root.Values .process).podAnnotations -}}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Pod fields that all processes share: identity, Pod Security "restricted", placement. */}}
{{- define "datakeys.podSpec" -}}
{{- $process := index .root.Values .process -}}
serviceAccountName: {{ include "datakeys.name" . }}
# All three processes talk to the API server.
automountServiceAccountToken: true
# Service links would add variables such as DATAKEYS_KEYSERVICE_PORT, in the prefix of the settings.
enableServiceLinks: false
terminationGracePeriodSeconds: 30
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  seccompProfile:
    type: RuntimeDefault
{{- with $process.image.pullSecrets | default .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with $process.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $process.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $process.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
affinity:
  {{- if $process.affinity }}
  {{- toYaml $process.affinity | nindent 2 }}
  {{- else }}
  podAntiAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        podAffinityTerm:
          topologyKey: kubernetes.io/hostname
          labelSelector:
            matchLabels:
              {{- include "datakeys.selectorLabels" . | nindent 14 }}
  {{- end }}
{{- with $process.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Container fields that all processes share. */}}
{{- define "datakeys.container" -}}
{{- $process := index .root.Values .process -}}
image: {{ include "datakeys.image" . | quote }}
imagePullPolicy: {{ include "datakeys.imagePullPolicy" . }}
securityContext:
  allowPrivilegeEscalation: false
  privileged: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
resources:
  {{- toYaml $process.resources | nindent 2 }}
startupProbe:
  httpGet:
    path: /healthz
    port: health
  periodSeconds: 2
  timeoutSeconds: 3
  failureThreshold: 60
livenessProbe:
  httpGet:
    path: /healthz
    port: health
  periodSeconds: 10
  timeoutSeconds: 3
  failureThreshold: 3
readinessProbe:
  httpGet:
    path: /readyz
    port: health
  periodSeconds: 5
  timeoutSeconds: 3
  failureThreshold: 2
{{- end }}

{{/* Environment of a process: what all have, then "env" (a list of dicts name, value), then extraEnv. */}}
{{- define "datakeys.env" -}}
{{- $process := index .root.Values .process -}}
{{- $names := list "DATAKEYS_SYSTEM_NAMESPACE" "DATAKEYS_CLUSTER_NAME" "DATAKEYS_LOG_LEVEL" "DATAKEYS_HEALTH_LISTEN" -}}
env:
  - name: DATAKEYS_SYSTEM_NAMESPACE
    valueFrom:
      fieldRef:
        fieldPath: metadata.namespace
  - name: DATAKEYS_CLUSTER_NAME
    value: {{ .root.Values.clusterName | quote }}
  - name: DATAKEYS_LOG_LEVEL
    value: {{ $process.logLevel | default .root.Values.logLevel | quote }}
  - name: DATAKEYS_HEALTH_LISTEN
    value: "0.0.0.0:9443"
  {{- range .env }}
  {{- $names = append $names .name }}
  - name: {{ .name }}
    value: {{ .value | toString | quote }}
  {{- end }}
  {{- range $process.extraEnv }}
  {{- if has .name $names }}
  {{- fail (printf "%s.extraEnv: the chart sets %s itself" $.process .name) }}
  {{- end }}
  - {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}

{{/* Scratch space: memory-backed, so that nothing a process writes there reaches a disk. */}}
{{- define "datakeys.tmpVolume" -}}
- name: tmp
  emptyDir:
    medium: Memory
    sizeLimit: 16Mi
{{- end }}

{{/* Egress rules that all processes need: the API server and DNS. */}}
{{- define "datakeys.egress" -}}
{{- with .Values.networkPolicy -}}
- ports:
    {{- range .apiServer.ports }}
    - protocol: TCP
      port: {{ . }}
    {{- end }}
  {{- with .apiServer.peers }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
- ports:
    {{- range .dns.ports }}
    - protocol: UDP
      port: {{ . }}
    - protocol: TCP
      port: {{ . }}
    {{- end }}
  {{- with .dns.peers }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
{{- end }}

{{/* Ingress rule for probes and scrapes. */}}
{{- define "datakeys.healthIngress" -}}
- ports:
    - protocol: TCP
      port: 9443
  {{- with .Values.networkPolicy.metrics.peers }}
  from:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
