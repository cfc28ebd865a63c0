"""What Celeriac costs, measured on one machine; not part of the wheel."""
