package kubeapi

import (
	"net/http"
)

// definitionsPath is where kubectl looks for custom resources before it
// creates an object of a kind that cannot be patched: every review.
const definitionsPath = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"

// noDefinitions is the true answer: kinds are built in, none is defined by an
// object. Without it `kubectl create -f` of a review fails.
func noDefinitions(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet {
		w.Header().Set("Allow", http.MethodGet)
		http.Error(w, "kinds cannot be defined here", http.StatusMethodNotAllowed)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write([]byte(`{"kind":"CustomResourceDefinitionList","apiVersion":"apiextensions.k8s.io/v1","metadata":{"resourceVersion":"1"},"items":[]}` + "\n"))
}
