"""What stands before the routes: authentication, rates, sign-ins, headers of security."""
