package refreshtest

// Spend uses a refresh token as another holder of it would.
func (s *Server) Spend(token string) { s.refresh(token) }
