package auth

import "slices"

// Names of the security schemes of a [Guard].
const (
	schemeHeader      = "apiKey"
	schemeBearer      = "bearer"
	schemeCertificate = "certificate"
)

// SecuritySchemes are the credentials that g takes, as security schemes of OpenAPI 3.1 by name: apiKey, bearer and certificate. Those of
// Options.Extra are not known.
func (g *Guard) SecuritySchemes() map[string]any {
	all := map[string]any{}
	bearer := map[string]string{"type": "http", "scheme": "bearer"}
	switch {
	case g.cfg.Keys != nil && len(g.cfg.JWT) > 0:
		bearer["description"] = "An API key or a JSON web token."
	case g.cfg.Keys != nil:
		bearer["description"] = "An API key."
	default:
		bearer["bearerFormat"] = "JWT"
	}
	if g.cfg.Keys != nil || len(g.cfg.JWT) > 0 {
		all[schemeBearer] = bearer
	}
	if g.cfg.Keys != nil {
		all[schemeHeader] = map[string]string{"type": "apiKey", "in": "header", "name": g.cfg.Keys.header()}
	}
	if g.cfg.MTLS != nil {
		all[schemeCertificate] = map[string]string{"type": "mutualTLS"}
	}
	return all
}

// SecurityRequirements are what p asks for, as OpenAPI 3.1 has it: any one of them, with the scopes. It is empty where none of the credentials
// that g takes is enough.
func (g *Guard) SecurityRequirements(p Policy) []map[string][]string {
	scopes := append([]string{}, p.Scopes...)
	counts := func(kinds ...Kind) bool {
		return len(p.Kinds) == 0 || slices.ContainsFunc(kinds, func(k Kind) bool { return slices.Contains(p.Kinds, k) })
	}
	keys, tokens := g.cfg.Keys != nil && counts(APIKey), len(g.cfg.JWT) > 0 && counts(Token)
	var all []map[string][]string
	if keys {
		all = append(all, map[string][]string{schemeHeader: scopes})
	}
	if keys || tokens {
		all = append(all, map[string][]string{schemeBearer: scopes})
	}
	if g.cfg.MTLS != nil && counts(Certificate) {
		all = append(all, map[string][]string{schemeCertificate: scopes})
	}
	if p.Anonymous {
		all = append(all, map[string][]string{})
	}
	return all
}
