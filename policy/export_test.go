package policy

// Forms that the schema gives too.
var (
	SpanForm    = spanForm.String()
	AccountForm = accountForm.String()
	ScopeForm   = scopeForm.String()
)
