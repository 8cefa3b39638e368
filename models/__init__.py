"""What erpmirror stores: settings, bookkeeping, the mirror and its write path."""
