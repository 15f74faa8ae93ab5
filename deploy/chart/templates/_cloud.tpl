{{/*
How to reach the cloud that issues credentials, for the manager and for the uninstall job, which has them revoked. Each of these is empty
if nothing is set.
*/}}
{{- define "tcr-assistant.cloud.annotations" -}}
{{- with (.Values.global.tcr | default dict).roleArn -}}
# With these, TKE lets the pods of a service account assume a CAM role.
tke.cloud.tencent.com/role-arn: {{ . | toJson }}
tke.cloud.tencent.com/audience: sts.cloud.tencent.com
tke.cloud.tencent.com/token-expiration: "86400"
{{- end -}}
{{- end -}}

{{/*
A checksum of what pods get only when they start, so that a change replaces them: the CA certificates, and what TKE adds for a role.
*/}}
{{- define "tcr-assistant.cloud.started" -}}
{{- with .Values.global.tcr -}}
{{- if or .ca .roleArn -}}
tcr.tencentcloudcr.com/tencentcloud: {{ printf "%s\n%s" (.roleArn | default "") (.ca | default "") | sha256sum }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "tcr-assistant.cloud.args" -}}
{{- $cloud := .Values.global.tcr | default dict -}}
{{- with $cloud.endpoint }}
- {{ printf "--tencentcloud-endpoint=%s" . | toJson }}
{{- end }}
{{- with $cloud.metadataEndpoint }}
- {{ printf "--tencentcloud-metadata-endpoint=%s" . | toJson }}
{{- end }}
{{- if include "tcr-assistant.cloud.trusts" . }}
- --tencentcloud-ca-file=/etc/tcr-assistant/tencentcloud-ca/ca.crt
{{- end }}
{{- with $cloud.clusterId }}
- {{ printf "--tencentcloud-cluster-id=%s" . | toJson }}
{{- end }}
{{- end -}}

{{/*
The environment. The manager also starts without the keys, since not every credential comes from the cloud. The cluster's API server is
never called through the proxy: the kubelet substitutes its address for the variable.
*/}}
{{- define "tcr-assistant.cloud.env" -}}
{{- $cloud := .Values.global.tcr | default dict -}}
{{- with $cloud.credentialsSecretRef }}
- name: TENCENTCLOUD_SECRET_ID
  valueFrom:
    secretKeyRef: {name: {{ .name | toJson }}, key: secretId, optional: true}
- name: TENCENTCLOUD_SECRET_KEY
  valueFrom:
    secretKeyRef: {name: {{ .name | toJson }}, key: secretKey, optional: true}
{{- end }}
{{- with $cloud.httpsProxy }}
- {name: HTTPS_PROXY, value: {{ . | toJson }}}
- {name: NO_PROXY, value: {{ prepend (compact (splitList "," (nospace ($cloud.noProxy | default "")))) "$(KUBERNETES_SERVICE_HOST)" | join "," | toJson }}}
{{- end }}
{{- end -}}

{{/* Whether CA certificates are mounted: "true", or nothing. */}}
{{- define "tcr-assistant.cloud.trusts" -}}
{{- with .Values.global.tcr -}}
{{- if or .ca .caConfigMapRef .caSecretRef -}}true{{- end -}}
{{- end -}}
{{- end -}}

{{- define "tcr-assistant.cloud.mounts" -}}
{{- if include "tcr-assistant.cloud.trusts" . -}}
- {name: tencentcloud-ca, mountPath: /etc/tcr-assistant/tencentcloud-ca, readOnly: true}
{{- end -}}
{{- end -}}

{{/* The volume with the CA certificates, given the root context and whether a pod may start without it. */}}
{{- define "tcr-assistant.cloud.volumes" -}}
{{- $cloud := (index . 0).Values.global.tcr | default dict -}}{{- $optional := index . 1 -}}
{{- if $cloud.ca -}}
- name: tencentcloud-ca
  configMap: {name: tcr-assistant-tencentcloud-ca, optional: {{ $optional }}}
{{- else if $cloud.caConfigMapRef -}}
- name: tencentcloud-ca
  configMap: {name: {{ $cloud.caConfigMapRef.name | toJson }}, items: [{key: ca.crt, path: ca.crt}], optional: {{ $optional }}}
{{- else if $cloud.caSecretRef -}}
- name: tencentcloud-ca
  secret: {secretName: {{ $cloud.caSecretRef.name | toJson }}, items: [{key: ca.crt, path: ca.crt}], optional: {{ $optional }}}
{{- end -}}
{{- end -}}
