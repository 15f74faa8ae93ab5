{{/*
What is wrong with the values besides what values.schema.json says of them. Every fault is told, with the value's path and
what to write instead. No message holds a password, or a value in which one may stand by mistake.
*/}}
{{- define "tcr-assistant.validate" -}}
{{- $faults := dict "list" (list) -}}
{{- $names := dict -}}
{{- range $i, $cr := .Values.global.imagePullSecretsCrs -}}
{{- $path := printf "global.imagePullSecretsCrs[%d]" $i -}}
{{- include "tcr-assistant.validate.name" (list $faults (printf "%s.name" $path) $cr.name $names) -}}
{{- include "tcr-assistant.validate.list" (list $faults (printf "%s.namespaces" $path) $cr.namespaces "namespace" "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$") -}}
{{- include "tcr-assistant.validate.list" (list $faults (printf "%s.serviceAccounts" $path) $cr.serviceAccounts "service account" "^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$") -}}
{{- $username := include "tcr-assistant.text" $cr.dockerUsername -}}
{{- if not (trim $username) -}}
{{- include "tcr-assistant.fault" (list $faults (printf "%s.dockerUsername" $path) "must not be blank: write the registry's user name") -}}
{{- else if contains ":" $username -}}
{{- include "tcr-assistant.fault" (list $faults (printf "%s.dockerUsername" $path) "must not hold \":\", which separates user name and password in HTTP basic authentication") -}}
{{- end -}}
{{- if not (include "tcr-assistant.text" $cr.dockerPassword) -}}
{{- include "tcr-assistant.fault" (list $faults (printf "%s.dockerPassword" $path) "must not be empty: write the registry's password or token") -}}
{{- end -}}
{{- include "tcr-assistant.validate.server" (list $faults (printf "%s.dockerServer" $path) $cr.dockerServer) -}}
{{- end -}}
{{- $taken := dict -}}
{{- range $i, $host := .Values.global.hosts -}}
{{- if ne (lower (toString $host.disabled)) "true" -}}
{{- include "tcr-assistant.validate.host" (list $faults (printf "global.hosts[%d]" $i) $host $taken) -}}
{{- end -}}
{{- end -}}
{{- if $faults.list -}}
{{- fail (printf "\n\nThese values cannot be installed:\n- %s\n" (join "\n- " $faults.list)) -}}
{{- end -}}
{{- end -}}

{{- define "tcr-assistant.fault" -}}
{{- $faults := index . 0 -}}
{{- $_ := set $faults "list" (append $faults.list (printf "%s: %s" (index . 1) (index . 2))) -}}
{{- end -}}

{{- define "tcr-assistant.validate.name" -}}
{{- $faults := index . 0 -}}{{- $path := index . 1 -}}{{- $name := index . 2 -}}{{- $names := index . 3 -}}
{{- if not (regexMatch "^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$" $name) -}}
{{- include "tcr-assistant.fault" (list $faults $path (printf "%q must be lower case letters, digits, \"-\" and \".\", beginning and ending with a letter or digit" $name)) -}}
{{- else if gt (len $name) 246 -}}
{{- include "tcr-assistant.fault" (list $faults $path "must be at most 246 characters: the Secret is named \"tcr.ips\" + this name, and a Secret's name ends at 253") -}}
{{- else if hasKey $names $name -}}
{{- include "tcr-assistant.fault" (list $faults $path (printf "%q is the name of %s already: write another" $name (get $names $name))) -}}
{{- end -}}
{{- $_ := set $names $name (trimSuffix ".name" $path) -}}
{{- end -}}

{{/* A comma list of exact names, as the ImagePullSecret takes it. */}}
{{- define "tcr-assistant.validate.list" -}}
{{- $faults := index . 0 -}}{{- $path := index . 1 -}}{{- $text := trim (toString (index . 2 | default "")) -}}{{- $noun := index . 3 -}}{{- $shape := index . 4 -}}
{{- if and $text (ne $text "*") -}}
{{- $seen := dict -}}
{{- range splitList "," $text -}}
{{- $entry := trim . -}}
{{- if not $entry -}}
{{- include "tcr-assistant.fault" (list $faults $path (printf "must not hold an empty entry: write exact %s names separated by single \",\"" $noun)) -}}
{{- else if eq $entry "*" -}}
{{- include "tcr-assistant.fault" (list $faults $path (printf "must be \"*\" alone, or exact %s names: \"*\" cannot stand among names" $noun)) -}}
{{- else if regexMatch "[*?\\[\\](){}^$|+\\\\]" $entry -}}
{{- include "tcr-assistant.fault" (list $faults $path (printf "%q must be an exact %s name: patterns are not supported; list the names, or write \"*\" alone for all" $entry $noun)) -}}
{{- else if or (not (regexMatch $shape $entry)) (gt (len $entry) 253) -}}
{{- include "tcr-assistant.fault" (list $faults $path (printf "%q must be an exact %s name: lower case letters, digits and \"-\", beginning and ending with a letter or digit" $entry $noun)) -}}
{{- else if hasKey $seen $entry -}}
{{- include "tcr-assistant.fault" (list $faults $path (printf "%q is listed twice: write it once" $entry)) -}}
{{- end -}}
{{- $_ := set $seen $entry true -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "tcr-assistant.validate.server" -}}
{{- $faults := index . 0 -}}{{- $path := index . 1 -}}{{- $server := index . 2 -}}
{{- if not $server -}}
{{- include "tcr-assistant.fault" (list $faults $path "must not be empty: write the registry's host, such as \"registry.example.com\"") -}}
{{- else if contains "@" $server -}}
{{- include "tcr-assistant.fault" (list $faults $path "must be a host without user info: the user's name belongs in dockerUsername") -}}
{{- else if contains "://" $server -}}
{{- include "tcr-assistant.fault" (list $faults $path (printf "must be a host without a scheme: write %q" (first (splitList "/" (last (splitList "://" $server)))))) -}}
{{- else if contains "/" $server -}}
{{- include "tcr-assistant.fault" (list $faults $path (printf "must be a host without a path: write %q" (first (splitList "/" $server)))) -}}
{{- else if not (regexMatch "^([a-zA-Z0-9]([-a-zA-Z0-9]{0,61}[a-zA-Z0-9])?(\\.[a-zA-Z0-9]([-a-zA-Z0-9]{0,61}[a-zA-Z0-9])?)*|\\[[0-9a-fA-F:.]+\\])(:([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]))?$" $server) -}}
{{- include "tcr-assistant.fault" (list $faults $path (printf "%q must be a host with an optional port from 1 to 65535, such as \"registry.example.com\" or \"registry.example.com:5000\"; patterns are not supported" $server)) -}}
{{- end -}}
{{- end -}}

{{/* One line of a hosts file. That ip is an address is said by the schema. */}}
{{- define "tcr-assistant.validate.host" -}}
{{- $faults := index . 0 -}}{{- $path := index . 1 -}}{{- $host := index . 2 -}}{{- $taken := index . 3 -}}
{{- $domain := trimSuffix "." (lower (trim $host.domain)) -}}
{{- $ip := lower (trim $host.ip) -}}
{{- $at := printf "%s.domain" $path -}}
{{- if not $domain -}}
{{- include "tcr-assistant.fault" (list $faults $at "must not be empty: write a DNS name such as demo-vpc.tencentcloudcr.com") -}}
{{- else if contains "*" $domain -}}
{{- include "tcr-assistant.fault" (list $faults $at (printf "%q is a wildcard, which a hosts file cannot hold: write one entry for each domain" $host.domain)) -}}
{{- else if regexMatch "[/:]" $domain -}}
{{- include "tcr-assistant.fault" (list $faults $at (printf "%q must be a DNS name without scheme, path and port" $host.domain)) -}}
{{- else if or (not (regexMatch "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*$" $domain)) (gt (len $domain) 253) -}}
{{- include "tcr-assistant.fault" (list $faults $at (printf "%q must be a DNS name: labels of letters, digits and \"-\", separated by \".\"" $host.domain)) -}}
{{- else if regexMatch "(^|\\.)[0-9]+$" $domain -}}
{{- include "tcr-assistant.fault" (list $faults $at (printf "%q must be a DNS name: the address belongs in ip" $host.domain)) -}}
{{- else if regexMatch "(^|\\.)localhost[46]?$|\\.localdomain[46]?$|^ip6-|^broadcasthost$" $domain -}}
{{- include "tcr-assistant.fault" (list $faults $at (printf "%q is the node's name for itself: write a registry's domain" $host.domain)) -}}
{{- end -}}
{{- if regexMatch "^(0\\.0\\.0\\.0|::|255\\.255\\.255\\.255|(22[4-9]|23[0-9])\\..*|ff[0-9a-f]{2}:.*|fe[89ab][0-9a-f]:.*|::ffff:.*)$" $ip -}}
{{- include "tcr-assistant.fault" (list $faults (printf "%s.ip" $path) (printf "%q must be an address that every node can reach: no unspecified, multicast, broadcast or link-local one, and no IPv4 address in IPv6 form" $host.ip)) -}}
{{- end -}}
{{- $claim := printf "%s over IPv%s" $domain (ternary "6" "4" (contains ":" $ip)) -}}
{{- if hasKey $taken $claim -}}
{{- include "tcr-assistant.fault" (list $faults $at (printf "%q has an address of this kind from %s already: write one IPv4 and at most one IPv6 address for a domain" $host.domain (get $taken $claim))) -}}
{{- else -}}
{{- $_ := set $taken $claim $path -}}
{{- end -}}
{{- end -}}
