package diagnose

import "fmt"

// managerSays returns what the status of an ImagePullSecret says about an object in the pod's namespace.
func (e *Evidence) managerSays(issuer Issuer, name string) string {
	for _, failure := range issuer.Failures {
		if failure.NamespacedName == e.Pod.Namespace+"/"+name {
			return fmt.Sprintf(". The manager says: %s: %s", failure.Reason, failure.Message)
		}
	}
	return ""
}

// managerDown returns a finding if no manager runs that would repair what is missing.
func (e *Evidence) managerDown() []Finding {
	if !e.saw(PartManager) || e.Manager.LeaseUntil.After(e.Now) {
		return nil
	}
	message := "no replica leads"
	if !e.Manager.LeaseUntil.IsZero() {
		message = "no replica has led since " + e.Manager.LeaseUntil.UTC().Format("2006-01-02 15:04:05 MST")
	}
	switch {
	case e.Manager.Found:
		message += fmt.Sprintf(", and %d of %d are available", e.Manager.Available, e.Manager.Replicas)
	case e.saw(PartDeployment):
		message += ", and there is no such Deployment"
	}
	return []Finding{{
		Reason: ManagerDown, Object: "deployment " + e.Product + "/tcr-assistant-controller-manager", Message: message,
		Action: "see kubectl describe deployment -n " + e.Product + " tcr-assistant-controller-manager, and the logs of its pods",
	}}
}
