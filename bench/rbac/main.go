package main

import (
	_ "github.com/gatehouse-dev/gatehouse/authz"
	_ "k8s.io/kubernetes/plugin/pkg/auth/authorizer/rbac"
)

func main() {}
