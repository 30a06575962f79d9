"""What only a privileged process does on Redis: users, rights, trimming, and keeping hogs off."""
