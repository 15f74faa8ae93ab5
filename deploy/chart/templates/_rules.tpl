{{/*
Checks one value by the CRD: a string, a list of strings, or an object, which comes with the names that its members have in the values.
Helm creates objects of kinds that it does not know last: if only the API server refused a value, that would leave a release with
everything else in it. So the chart checks first, by the CRD in crds/, and has no rules of its own.
*/}}
{{- define "tcr-assistant.rules" -}}
{{- $faults := index . 0 -}}{{- $path := index . 1 -}}{{- $value := index . 2 -}}{{- $schema := index . 3 -}}
{{- $names := dict -}}{{- if gt (len .) 4 -}}{{- $names = index . 4 -}}{{- end -}}
{{- $length := 0 -}}
{{- if kindIs "string" $value -}}{{- $length = len (splitList "" $value) -}}{{- else -}}{{- $length = len $value -}}{{- end -}}
{{- if gt $length (int ($schema.maxLength | default $length)) -}}
{{- include "tcr-assistant.fault" (list $faults $path (printf "must not be longer than %d characters" (int $schema.maxLength))) -}}
{{- else if gt $length (int ($schema.maxItems | default $length)) -}}
{{- include "tcr-assistant.fault" (list $faults $path (printf "must have at most %d items" (int $schema.maxItems))) -}}
{{- else -}}
{{- range index $schema "x-kubernetes-validations" -}}
{{- if ne (include "tcr-assistant.rule" (list .rule $value)) "T" -}}
{{- include "tcr-assistant.fault" (list $faults (printf "%s%s" $path (get $names (.fieldPath | default ""))) .message) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/*
Whether a value satisfies a rule, "T" or "F". A rule is a CEL expression of calls and comparisons of "self", joined by !, &&, || and ?:.
For an object it asks which members exist, or whether one is contained in another; for a list, whether it contains a value twice.
Each of these is replaced by its result, and then the expression by its value, from the innermost parentheses outwards. A rule that
uses anything else fails every install with credentials, and so the tests.
*/}}
{{- define "tcr-assistant.rule" -}}
{{- $rule := replace "self.metadata.name" "self" (index . 0) -}}{{- $self := index . 1 -}}
{{- if not (kindIs "string" $self) -}}
{{- range regexFindAll `has\(self\.[a-zA-Z]+\)` $rule -1 -}}
{{- $rule = replace . (ternary "T" "F" (hasKey $self (regexReplaceAll `has\(self\.([a-zA-Z]+)\)` . "${1}"))) $rule -}}
{{- end -}}
{{- $in := `self\.([a-zA-Z]+) in self\.([a-zA-Z]+)` -}}
{{- range regexFindAll $in $rule -1 -}}
{{- $rule = replace . (ternary "T" "F" (has (get $self (regexReplaceAll $in . "${1}")) (get $self (regexReplaceAll $in . "${2}") | default list))) $rule -}}
{{- end -}}
{{- $once := "self.all(one, self.exists_one(other, other == one))" -}}
{{- if contains $once $rule -}}{{- $rule = replace $once (ternary "T" "F" (eq (len (uniq $self)) (len $self))) $rule -}}{{- end -}}
{{- $self = "" -}}
{{- end -}}
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
{{- if not (has $value (list "T" "F")) -}}{{- fail (printf "the chart cannot evaluate the rule %q of the CRD: what remains is %q" (index . 0) $value) -}}{{- end -}}
{{- $value -}}
{{- end -}}
