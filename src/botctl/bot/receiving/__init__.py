"""Updates on their way in: asked for or sent, stored, into the lanes of their chats."""
