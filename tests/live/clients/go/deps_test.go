package main

// The client's own tests are built from here, so that what they need is in go.sum.
import _ "github.com/hashicorp/consul/sdk/testutil"
