{{- define "tcr-assistant.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default (printf "v%s" $.Chart.AppVersion) }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The labels that select the pods of a component. The names of all objects are fixed, so there is only one release per cluster. */}}
{{- define "tcr-assistant.selector" -}}
app.kubernetes.io/name: tcr-assistant
app.kubernetes.io/component: {{ . }}
{{- end -}}

{{/* The labels of an object: a component and the root context. */}}
{{- define "tcr-assistant.labels" -}}
{{ include "tcr-assistant.selector" (index . 0) }}
app.kubernetes.io/version: {{ (index . 1).Chart.AppVersion | quote }}
{{- end -}}

{{/* What the pod security level "restricted" requires of a container. */}}
{{- define "tcr-assistant.restricted" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- define "tcr-assistant.podSecurityContext" -}}
runAsNonRoot: true
{{- if not (kindIs "invalid" .Values.manager.runAsUser) }}
runAsUser: {{ int64 .Values.manager.runAsUser }}
runAsGroup: {{ int64 .Values.manager.runAsUser }}
{{- end }}
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{/*
A string that may have been written as a number. Helm keeps the digits only of numbers passed by --set: see tcr-assistant.validate.text.
*/}}
{{- define "tcr-assistant.text" -}}
{{- if kindIs "float64" . }}{{ printf "%.0f" . }}{{ else if not (kindIs "invalid" .) }}{{ . }}{{ end -}}
{{- end -}}

{{- define "tcr-assistant.hostsUpdater.namespace" -}}
{{ .Values.hostsUpdater.namespace | default .Release.Namespace }}
{{- end -}}

{{/* Whether hosts-updater runs: "true", or nothing. It does if there are hosts, or if the manager may find some. */}}
{{- define "tcr-assistant.hostsUpdater.runs" -}}
{{- $runs := or .Values.global.hosts .Values.hostsUpdater.always -}}
{{- range .Values.global.imagePullSecretsCrs -}}
{{- with .tcr -}}{{- if kindIs "map" .privateNetwork -}}{{- $runs = true -}}{{- end -}}{{- end -}}
{{- end -}}
{{- if $runs }}true{{ end -}}
{{- end -}}

{{/* The names of the Secrets for the credentials in the values, as a JSON list. */}}
{{- define "tcr-assistant.secrets" -}}
{{- $names := list -}}
{{- range .Values.global.imagePullSecretsCrs }}{{ $names = append $names (printf "tcr.ips%s" (include "tcr-assistant.text" .name)) }}{{ end -}}
{{ toJson $names }}
{{- end -}}

{{/*
Whether the API server serves the kind of policy that attaches Secrets: "true", or nothing. The version is checked too, because a tool
that renders without a cluster claims to have every API that Helm knows.
*/}}
{{- define "tcr-assistant.servesPolicy" -}}
{{- if and (.Capabilities.APIVersions.Has "admissionregistration.k8s.io/v1/MutatingAdmissionPolicy") (semverCompare ">=1.36.0-0" .Capabilities.KubeVersion.Version) }}true{{ end -}}
{{- end -}}

{{/* Whether that policy is installed: "true", or nothing. */}}
{{- define "tcr-assistant.attaches" -}}
{{- $attach := toString .Values.admissionPolicies.attach -}}
{{- if or (eq $attach "true") (and (eq $attach "auto") (include "tcr-assistant.servesPolicy" .)) }}true{{ end -}}
{{- end -}}

{{/* Whether the webhook attaches Secrets: "true", or nothing. */}}
{{- define "tcr-assistant.mutates" -}}
{{- $mutating := toString .Values.webhook.mutating -}}
{{- if and .Values.webhook.enabled (or (eq $mutating "true") (and (eq $mutating "auto") (not (include "tcr-assistant.attaches" .)))) }}true{{ end -}}
{{- end -}}

{{/* The names of the Secrets that hold the records of tokens, as a JSON list. */}}
{{- define "tcr-assistant.tokens" -}}
{{- $names := list -}}
{{- range until 8 -}}{{- $names = append $names (printf "tcr-assistant-tokens-%d" .) -}}{{- end -}}
{{- toJson $names -}}
{{- end -}}

{{/*
Whether a permission of rbac is granted, given the root context and its name: "true", or nothing. A missing value counts as true: with
--reuse-values Helm uses the values of the old release instead of the chart's, and older releases lack it.
*/}}
{{- define "tcr-assistant.rbac" -}}
{{- if ne "false" (toString (index (index . 0).Values.rbac (index . 1))) }}true{{ end -}}
{{- end -}}

{{/* Whether the manager may evict pods: "true", or nothing. */}}
{{- define "tcr-assistant.heals" -}}
{{- $heals := eq (toString .Values.rbac.healing) "true" -}}
{{- if eq (toString .Values.rbac.healing) "auto" -}}
{{- range .Values.global.imagePullSecretsCrs }}{{ if eq (toString .healing) "Evict" }}{{ $heals = true }}{{ end }}{{ end -}}
{{- end -}}
{{- if $heals }}true{{ end -}}
{{- end -}}
