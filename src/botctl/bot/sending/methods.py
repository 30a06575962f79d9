"""Every method of the Bot API by what the send journal does with it. Pure; names as in python-telegram-bot 22.

Telegram takes method names in any case, and so does this.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from telegram.error import BadRequest, TelegramError


class Kind(StrEnum):
    """What a call does, and so what becomes of it when its handler runs once more after a crash."""

    NUMBERED = "numbered"
    """People see it, or it changes what may have been changed again since: recorded, and answered from the record."""
    SPENDING = "spending"
    """As `numbered`, but it costs Telegram Stars: when it may have been carried out it is never made again, whatever
    the bot's `on_uncertain` says."""
    UNNUMBERED = "unnumbered"
    """Done twice it does no harm, because it sets what it sets, or is over in seconds: made again on a replay."""
    READING = "reading"
    """It changes nothing: made again on a replay, which may then read something newer."""


_MESSAGES = frozenset(
    {
        *("copyMessage", "copyMessages", "forwardMessage", "forwardMessages", "sendAnimation", "sendAudio"),
        *("sendChecklist", "sendContact", "sendDice", "sendDocument", "sendGame", "sendInvoice", "sendLivePhoto"),
        *("sendLocation", "sendMediaGroup", "sendMessage", "sendPaidMedia", "sendPhoto", "sendPoll", "sendSticker"),
        *("sendVenue", "sendVideo", "sendVideoNote", "sendVoice"),
    }
)
"""They make messages. Stories, gifts and answers to queries make none in a chat."""

_EDITS = frozenset(
    {
        *("editMessageCaption", "editMessageChecklist", "editMessageLiveLocation", "editMessageMedia"),
        *("editMessageReplyMarkup", "editMessageText", "setGameScore", "stopMessageLiveLocation", "stopPoll"),
    }
)
"""They change a message, and are limited as messages are (https://github.com/tdlib/telegram-bot-api/issues/648)."""

_SPENDING = frozenset(
    {"giftPremiumSubscription", "sendGift", "transferBusinessAccountStars", "transferGift", "upgradeGift"}
)

_CHANGES = frozenset(
    {
        *("addStickerToSet", "approveChatJoinRequest", "approveSuggestedPost", "banChatMember", "banChatSenderChat"),
        *("closeForumTopic", "closeGeneralForumTopic", "convertGiftToStars", "createChatInviteLink"),
        *("createChatSubscriptionInviteLink", "createForumTopic", "createInvoiceLink", "createNewStickerSet"),
        *("declineChatJoinRequest", "declineSuggestedPost", "deleteAllMessageReactions", "deleteBusinessMessages"),
        *("deleteChatPhoto", "deleteChatStickerSet", "deleteForumTopic", "deleteMessage", "deleteMessageReaction"),
        *("deleteMessages", "deleteStickerFromSet", "deleteStickerSet", "deleteStory", "editChatInviteLink"),
        *("editChatSubscriptionInviteLink", "editForumTopic", "editGeneralForumTopic", "editStory"),
        *("editUserStarSubscription", "exportChatInviteLink", "hideGeneralForumTopic", "leaveChat"),
        *("pinChatMessage", "postStory", "promoteChatMember", "refundStarPayment"),
        *("removeBusinessAccountProfilePhoto", "removeChatVerification", "removeMyProfilePhoto"),
        *("removeUserVerification", "reopenForumTopic", "reopenGeneralForumTopic", "replaceManagedBotToken"),
        *("replaceStickerInSet", "repostStory", "restrictChatMember", "revokeChatInviteLink"),
        *("savePreparedInlineMessage", "savePreparedKeyboardButton", "setBusinessAccountBio"),
        *("setBusinessAccountGiftSettings", "setBusinessAccountName", "setBusinessAccountProfilePhoto"),
        *("setBusinessAccountUsername", "setChatAdministratorCustomTitle", "setChatDescription", "setChatMemberTag"),
        *("setChatPermissions", "setChatPhoto", "setChatStickerSet", "setChatTitle"),
        *("setCustomEmojiStickerSetThumbnail", "setManagedBotAccessSettings", "setMessageReaction"),
        *("setMyProfilePhoto", "setPassportDataErrors", "setStickerEmojiList", "setStickerKeywords"),
        *("setStickerMaskPosition", "setStickerPositionInSet", "setStickerSetThumbnail", "setStickerSetTitle"),
        *("setUserEmojiStatus", "unbanChatMember", "unbanChatSenderChat", "unhideGeneralForumTopic"),
        *("unpinAllChatMessages", "unpinAllForumTopicMessages", "unpinAllGeneralForumTopicMessages"),
        *("unpinChatMessage", "uploadStickerFile", "verifyChat", "verifyUser"),
    }
)

_ANSWERS = frozenset(
    {
        *("answerCallbackQuery", "answerGuestQuery", "answerInlineQuery", "answerPreCheckoutQuery"),
        *("answerShippingQuery", "answerWebAppQuery"),
    }
)
"""Telegram takes one answer to a query, and none after its time; a second one finds no query any more."""

_DONE_WHEN_EXPIRED = frozenset(
    {"answerCallbackQuery", "answerInlineQuery", "answerPreCheckoutQuery", "answerShippingQuery"}
)
"""Answers that return True: nobody waits for them any more, so too late is as good as done."""

_HARMLESS = frozenset(
    {
        *("close", "deleteMyCommands", "deleteWebhook", "logOut", "readBusinessMessage", "sendChatAction"),
        *("sendMessageDraft", "setChatMenuButton", "setMyCommands", "setMyDefaultAdministratorRights"),
        *("setMyDescription", "setMyName", "setMyShortDescription", "setWebhook"),
    }
)

_READING = frozenset(
    {
        *("getAvailableGifts", "getBusinessAccountGifts", "getBusinessAccountStarBalance", "getBusinessConnection"),
        *("getChat", "getChatAdministrators", "getChatGifts", "getChatMember", "getChatMemberCount"),
        *("getChatMenuButton", "getCustomEmojiStickers", "getFile", "getForumTopicIconStickers"),
        *("getGameHighScores", "getManagedBotAccessSettings", "getManagedBotToken", "getMe", "getMyCommands"),
        *("getMyDefaultAdministratorRights", "getMyDescription", "getMyName", "getMyShortDescription"),
        *("getMyStarBalance", "getStarTransactions", "getStickerSet", "getUpdates", "getUserChatBoosts"),
        *("getUserGifts", "getUserPersonalChatMessages", "getUserProfileAudios", "getUserProfilePhotos"),
        *("getWebhookInfo",),
    }
)

METHODS: Mapping[str, Kind] = {
    **dict.fromkeys(_MESSAGES | _EDITS | _CHANGES, Kind.NUMBERED),
    **dict.fromkeys(_SPENDING, Kind.SPENDING),
    **dict.fromkeys(_ANSWERS | _HARMLESS, Kind.UNNUMBERED),
    **dict.fromkeys(_READING, Kind.READING),
}
"""Every method there is."""

_TEXT_ALONE = frozenset(
    {
        *("copyMessage", "deleteMessage", "deleteMessages", "editMessageCaption", "editMessageReplyMarkup"),
        *("editMessageText", "forwardMessage", "pinChatMessage", "sendChatAction", "sendContact", "sendDice"),
        *("sendLocation", "sendMessage", "sendMessageDraft", "sendPoll", "sendVenue", "setMessageReaction"),
    }
)

_KINDS = {name.lower(): kind for name, kind in METHODS.items()}
_MAKING = frozenset(name.lower() for name in _MESSAGES)
_COUNTED = frozenset(name.lower() for name in _MESSAGES | _EDITS)
_PROMPT = frozenset(name.lower() for name in _TEXT_ALONE | _ANSWERS)
_EXPIRING = frozenset(name.lower() for name in _DONE_WHEN_EXPIRED)


NEVER_AGAIN = tuple(sorted(name.lower() for name in _SPENDING))
"""Methods, in lower case, that must not be called again when they may have been carried out."""


def kind_of(method: str) -> Kind:
    """What to do with a call. A method nobody knows here is numbered unless its name says that it reads."""
    known = _KINDS.get(method.lower())
    if known is None:
        return Kind.READING if method.lower().startswith("get") else Kind.NUMBERED
    return known


def is_numbered(method: str) -> bool:
    """Whether a call is journaled."""
    return kind_of(method) in (Kind.NUMBERED, Kind.SPENDING)


def is_spending(method: str) -> bool:
    """Whether a call that may have been carried out must never be made again."""
    return kind_of(method) is Kind.SPENDING


def makes_messages(method: str) -> bool:
    """Whether the answer of Telegram is a message, or are messages, in a chat."""
    return method.lower() in _MAKING


def is_prompt(method: str) -> bool:
    """Whether Telegram answers from what it has, with no file to fetch or to move: what takes long there hangs."""
    return method.lower() in _PROMPT


def items_of(method: str, parameters: Mapping[str, Any]) -> int:
    """How many messages a call is to Telegram's flood control; 0 for calls that aren't limited as far as we know."""
    name = method.lower()
    if name not in _COUNTED:
        return 0
    many = parameters.get({"sendmediagroup": "media"}.get(name, "message_ids"))
    return max(1, len(many)) if isinstance(many, list | tuple) else 1


def is_done_all_the_same(method: str, error: TelegramError, *, again: bool) -> bool:
    """Whether a refusal says that what the call is for has come about, or that nobody waits for it any more.

    `again`: an earlier call of the same send may have been carried out.
    """
    if not isinstance(error, BadRequest):
        return False
    name, text = method.lower(), str(error).lower()
    if name in _EXPIRING:
        return "query is too old" in text or "query id is invalid" in text
    if not again:
        return False
    return (name.startswith("editmessage") and "message is not modified" in text) or (
        name == "deletemessage" and "message to delete not found" in text
    )
