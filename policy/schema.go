package policy

import _ "embed"

// Schema is the JSON Schema of policy files, for editors. It is made from the types (TestSchemaIsCurrent).
//
//go:embed policy.schema.json
var Schema []byte
