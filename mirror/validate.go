package mirror

// Validate tells what [Open] would refuse without asking the server: invalid_argument, with the field among its details.
func (c Config) Validate() error {
	c, err := c.withDefaults()
	if err != nil {
		return err
	}
	if _, err = parseKey(c.Key); err != nil {
		return err
	}
	_, err = newChecks(c.Health.withDefaults())
	return err
}

// Validate tells what [Mirror.Set] would refuse without asking the server: invalid_argument, with the field among its details.
func (b Backend) Validate() error { return b.check() }
