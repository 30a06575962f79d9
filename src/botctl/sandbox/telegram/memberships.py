"""Who is in a chat and with which rights, in the shape of ChatMember. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

STATUSES = ("creator", "administrator", "member", "restricted", "left", "kicked")
PRESENT = frozenset({"creator", "administrator", "member", "restricted"})
_ADMIN_RIGHTS = (
    *("can_be_edited", "can_manage_chat", "can_delete_messages", "can_manage_video_chats", "can_restrict_members"),
    *("can_promote_members", "can_change_info", "can_invite_users", "can_post_stories", "can_edit_stories"),
    *("can_delete_stories", "can_pin_messages"),
)
_PERMISSIONS = (
    *("can_send_messages", "can_send_audios", "can_send_documents", "can_send_photos", "can_send_videos"),
    *("can_send_video_notes", "can_send_voice_notes", "can_send_polls", "can_send_other_messages"),
    *("can_add_web_page_previews", "can_change_info", "can_invite_users", "can_pin_messages", "can_manage_topics"),
    *("can_react_to_messages", "can_edit_tag"),
)


@dataclass(slots=True)
class Member:
    """One user in one chat."""

    user: dict[str, Any]
    status: str = "member"
    until: int = 0
    """When a ban or a restriction ends; 0 for never."""
    rights: dict[str, bool] = field(default_factory=dict)
    """Those that were given explicitly."""

    @property
    def present(self) -> bool:
        """Whether the user is in the chat."""
        return self.status in PRESENT

    def as_json(self) -> dict[str, Any]:
        """The ChatMember object."""
        shown: dict[str, Any] = {"user": self.user, "status": self.status}
        if self.status == "creator":
            shown["is_anonymous"] = False
        elif self.status == "administrator":
            shown["is_anonymous"] = False
            shown.update({right: self.rights.get(right, True) for right in _ADMIN_RIGHTS})
        elif self.status == "restricted":
            shown.update({right: self.rights.get(right, False) for right in _PERMISSIONS})
            shown.update(is_member=True, until_date=self.until)
        elif self.status == "kicked":
            shown["until_date"] = self.until
        return shown
