"""Guards before the routes: authentication, rate limits, sign-ins, security headers."""
