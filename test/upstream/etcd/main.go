// Command etcd is the stock etcd server, linked from its own module so that
// the tests run the version that the stock kube-apiserver is released with.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() { etcdmain.Main(os.Args) }
