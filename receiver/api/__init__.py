"""The routes that need the token, liveness, and their OpenAPI description."""
