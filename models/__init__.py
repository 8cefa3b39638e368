"""What erpmirror keeps: settings, tables, the one write path, migrations."""
