"""What `control` looks at now and then: databases, disks, resolvers, bots that take no updates."""
