{{/*
What the CRD says of one value. Helm makes objects of kinds that it does not know last: a value that only the API server refused would
leave a release with everything else in it. So the chart judges first, and by the CRD that lies in crds/: no rule stands here.
*/}}
{{- define "tcr-assistant.rules" -}}
{{- $faults := index . 0 -}}{{- $path := index . 1 -}}{{- $value := index . 2 -}}{{- $schema := index . 3 -}}
{{- $length := len (splitList "" $value) -}}
{{- if gt $length (int ($schema.maxLength | default $length)) -}}
{{- include "tcr-assistant.fault" (list $faults $path (printf "must not be longer than %d characters" (int $schema.maxLength))) -}}
{{- else -}}
{{- range index $schema "x-kubernetes-validations" -}}
{{- if ne (include "tcr-assistant.rule" (list .rule $value)) "T" -}}
{{- include "tcr-assistant.fault" (list $faults $path .message) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/*
Whether a value keeps a rule, "T" or "F". A rule is a CEL expression of calls and comparisons of "self", joined by !, &&, || and ?:.
Each of those is replaced by what it is, and then the expression by its value, from the innermost parentheses outwards. A rule that
uses anything else fails every install of credentials, and the tests with them.
*/}}
{{- define "tcr-assistant.rule" -}}
{{- $rule := replace "self.metadata.name" "self" (index . 0) -}}{{- $self := index . 1 -}}
{{- $call := `(self|\(self \+ ','\))\.(matches|contains|startsWith)\('((?:[^'\\]|\\.)*)'\)` -}}
{{- range regexFindAll $call $rule -1 -}}
{{- $text := ternary $self (printf "%s," $self) (hasPrefix "self" .) -}}
{{- $verb := regexReplaceAll $call . "${2}" -}}{{- $argument := regexReplaceAll $call . "${3}" | replace `\\` `\` -}}
{{- $holds := false -}}
{{- if eq $verb "matches" -}}{{- $holds = mustRegexMatch $argument $text -}}
{{- else if eq $verb "contains" -}}{{- $holds = contains $argument $text -}}
{{- else -}}{{- $holds = hasPrefix $argument $text -}}
{{- end -}}
{{- $rule = replace . (ternary "T" "F" $holds) $rule -}}
{{- end -}}
{{- $port := `int\(self\.substring\(self\.lastIndexOf\(':'\) \+ 1\)\) <= ([0-9]+)` -}}
{{- range regexFindAll $port $rule -1 -}}
{{- $rule = replace . (ternary "T" "F" (le (int (last (splitList ":" $self))) (int (regexReplaceAll $port . "${1}")))) $rule -}}
{{- end -}}
{{- $size := `size\(self\) (<=|>) ([0-9]+)` -}}
{{- range regexFindAll $size $rule -1 -}}
{{- $small := le (len (splitList "" $self)) (int (regexReplaceAll $size . "${2}")) -}}
{{- $rule = replace . (ternary "T" "F" (eq $small (contains "<=" .))) $rule -}}
{{- end -}}
{{- $rule = $rule | replace "self == ''" (ternary "T" "F" (eq $self "")) | replace "self != ''" (ternary "T" "F" (ne $self "")) -}}
{{- $value := printf "(%s)" $rule -}}
{{- range until 20 -}}
{{- $value = $value | replace "!T" "F" | replace "!F" "T" | replace "T && T" "T" | replace "T && F" "F" | replace "F && T" "F" | replace "F && F" "F" -}}
{{- $value = regexReplaceAll `\(F( \|\| F)*\)` (regexReplaceAll `\(([TF] \|\| )*T( \|\| [TF])*\)` $value "T") "F" -}}
{{- $value = regexReplaceAll `\(F \? [TF] : ([TF])\)` (regexReplaceAll `\(T \? ([TF]) : [TF]\)` $value "${1}") "${1}" -}}
{{- end -}}
{{- if not (has $value (list "T" "F")) -}}{{- fail (printf "the rule %q of the CRD is beyond this chart: it comes to %q" (index . 0) $value) -}}{{- end -}}
{{- $value -}}
{{- end -}}
