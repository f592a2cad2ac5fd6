package image

import (
	_ "embed"
	"strings"
)

//go:embed init.sh
var shippedInit string

// ShippedInit is a whole init for templates under a shell init: console,
// mounts, delegation, network, envd, and the waiting of process 1. It is written
// for busybox, dash and bash.
func ShippedInit() string { return strings.Replace(shippedInit, "@DELEGATION@\n", delegation, 1) }
