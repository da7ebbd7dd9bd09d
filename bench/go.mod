module github.com/gatehouse-dev/gatehouse/bench

go 1.26.0

// The product as it stands in this checkout.
replace github.com/gatehouse-dev/gatehouse => ../

require github.com/gatehouse-dev/gatehouse v0.0.0-00010101000000-000000000000
