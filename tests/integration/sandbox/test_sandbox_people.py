"""What people do, as python-telegram-bot sees it: media, albums, reactions, queries, members, migrations, blocks."""

from __future__ import annotations

import pytest
from telegram import Bot, ChatMember, ChatPermissions, InlineQueryResultArticle, InputTextMessageContent, Update
from telegram.error import BadRequest, ChatMigrated, Forbidden

from botctl.sandbox.client import SandboxClient, SandboxError

CHAT, GROUP = 42, -500
ADA = {"id": 42, "first_name": "Ada"}
EVERYTHING = Update.ALL_TYPES


async def test_people_send_every_kind_of_thing(bot: Bot, operator: SandboxClient) -> None:
    things = {
        "photo": {},
        "voice": {"duration": 3},
        "video": {},
        "sticker": {"emoji": "🐳"},
        "location": {"latitude": 1.0, "longitude": 2.0},
        "contact": {"phone_number": "+49123", "first_name": "Bob"},
        "venue": {"location": {"latitude": 1.0, "longitude": 2.0}, "title": "a pub", "address": "a lane"},
        "dice": {"emoji": "🎲", "value": 3},
        "poll": {"id": "5", "question": "who?", "options": [{"text": "me", "voter_count": 0, "persistent_id": "1"}]},
        "story": {"id": 1, "chat": {"id": 7, "type": "channel"}},
    }
    for name, content in things.items():
        await operator.say(bot.id, CHAT, "see" if name == "photo" else None, ADA, **{name: content})
    updates = await bot.get_updates()
    for update, name in zip(updates, things, strict=True):
        assert update.message is not None
        assert getattr(update.message, name)
    assert updates[0].message is not None
    assert (updates[0].message.caption, updates[0].message.text) == ("see", None)
    with pytest.raises(SandboxError, match="text is required and is a string, or one of photo"):
        await operator.say(bot.id, CHAT, None)


@pytest.mark.parametrize("name", ["location", "venue", "contact", "dice", "poll", "story"])
async def test_things_that_telegram_would_never_send_are_refused(name: str, bot: Bot, operator: SandboxClient) -> None:
    with pytest.raises(SandboxError, match=f": {name} lacks "):
        await operator.say(bot.id, CHAT, None, **{name: {}})
    assert await bot.get_updates() == ()


async def test_an_album_comes_as_updates_of_their_own(bot: Bot, operator: SandboxClient) -> None:
    album = await operator.act(bot.id, "albums", chat_id=CHAT, items=[{"photo": {}, "text": "two"}, {"video": {}}])
    updates = await bot.get_updates()
    assert [update.message.media_group_id for update in updates if update.message] == [album["media_group_id"]] * 2


async def test_reactions_come_to_bots_that_ask_for_them(bot: Bot, operator: SandboxClient) -> None:
    said = await operator.say(bot.id, CHAT, "hi", ADA)
    react = {"chat_id": CHAT, "message_id": said.message_id, "user": ADA}
    assert (await operator.act(bot.id, "reactions", **react, emoji=["👍"]))["update_id"] is None
    await bot.get_updates(allowed_updates=EVERYTHING)
    await operator.act(bot.id, "reactions", **react, emoji=["🔥"])
    update = (await bot.get_updates())[-1]
    assert update.message_reaction is not None
    assert [one.emoji for one in update.message_reaction.old_reaction] == ["👍"]  # type: ignore[attr-defined]
    assert [one.emoji for one in update.message_reaction.new_reaction] == ["🔥"]  # type: ignore[attr-defined]


async def test_inline_queries_and_payments_are_answered_once(bot: Bot, operator: SandboxClient) -> None:
    await operator.act(bot.id, "inline_queries", user=ADA, query="cats")
    await operator.act(bot.id, "payments", user=ADA, total_amount=5, invoice_payload="p")
    inline, payment = await bot.get_updates()
    assert inline.inline_query is not None
    assert payment.pre_checkout_query is not None
    results = [InlineQueryResultArticle(str(n), "cat", InputTextMessageContent("cat")) for n in range(2)]
    assert await inline.inline_query.answer(results)
    with pytest.raises(BadRequest, match="Query is too old"):
        await inline.inline_query.answer(results)
    with pytest.raises(BadRequest, match="Result_id_duplicate"):
        await bot.answer_inline_query("1", [results[0], results[0]])
    assert await payment.pre_checkout_query.answer(True)
    assert [event.type for event in await operator.events(bot.id)] == ["inline_answer", "pre_checkout_answer"]


async def test_people_join_are_promoted_and_leave(bot: Bot, operator: SandboxClient) -> None:
    await bot.get_updates(allowed_updates=EVERYTHING)
    await operator.say(bot.id, GROUP, "hi", ADA)
    member = {"chat_id": GROUP, "user_id": 7, "user": {"first_name": "Bob"}}
    for status in ("member", "administrator", "left"):
        await operator.act(bot.id, "members", **member, status=status)
    updates = await bot.get_updates()
    changes = [update.chat_member for update in updates if update.chat_member]
    assert [(one.old_chat_member.status, one.new_chat_member.status) for one in changes] == [
        ("left", "member"),
        ("member", "administrator"),
        ("administrator", "left"),
    ]
    services = [update.message for update in updates if update.message]
    assert services[1].new_chat_members[0].first_name == "Bob"
    assert services[2].left_chat_member is not None
    assert await bot.get_chat_member_count(GROUP) == 2
    assert (await bot.get_chat_member(GROUP, 42)).status == "member"
    assert (await bot.get_chat_member(GROUP, 7)).status == "left"
    with pytest.raises(BadRequest, match="Invalid user_id specified"):
        await bot.get_chat_member(GROUP, 4711)


async def test_only_an_administrator_bans(bot: Bot, operator: SandboxClient) -> None:
    said = await operator.say(bot.id, GROUP, "spam", ADA)
    with pytest.raises(BadRequest, match="Not enough rights to restrict/ban chat member"):
        await bot.ban_chat_member(GROUP, 42)
    with pytest.raises(BadRequest, match="Message can't be deleted"):
        await bot.delete_message(GROUP, said.message_id)
    await operator.act(bot.id, "members", chat_id=GROUP, user_id=bot.id, status="administrator")
    update = (await bot.get_updates())[-1]
    assert update.my_chat_member is not None
    assert update.my_chat_member.new_chat_member.status == ChatMember.ADMINISTRATOR
    assert [one.user.id for one in await bot.get_chat_administrators(GROUP)] == [bot.id]
    assert await bot.restrict_chat_member(GROUP, 42, ChatPermissions.no_permissions())
    assert (await bot.get_chat_member(GROUP, 42)).status == "restricted"
    assert await bot.ban_chat_member(GROUP, 42)
    assert (await bot.get_chat_member(GROUP, 42)).status == "kicked"
    with pytest.raises(SandboxError, match="is kicked in that chat"):
        await operator.say(bot.id, GROUP, "again", ADA)
    assert await bot.unban_chat_member(GROUP, 42, only_if_banned=True)
    assert await bot.leave_chat(GROUP)
    with pytest.raises(Forbidden, match="bot is not a member of the group chat"):
        await bot.send_message(GROUP, "x")


async def test_blocking_the_bot_is_told_and_refuses_sends(bot: Bot, operator: SandboxClient) -> None:
    await operator.say(bot.id, CHAT, "hi", ADA)
    await operator.set_chat(bot.id, CHAT, blocked=True)
    update = (await bot.get_updates())[-1]
    assert update.my_chat_member is not None
    assert update.my_chat_member.new_chat_member.status == "kicked"
    with pytest.raises(Forbidden, match="bot was blocked by the user"):
        await bot.send_message(CHAT, "x")
    await operator.set_chat(bot.id, CHAT, blocked=False)
    assert await bot.send_message(CHAT, "x")


async def test_a_group_becomes_a_supergroup(bot: Bot, operator: SandboxClient) -> None:
    await operator.say(bot.id, GROUP, "hi", ADA)
    moved = await operator.act(bot.id, "migrations", chat_id=GROUP)
    updates = await bot.get_updates()
    told = [
        (update.message.migrate_to_chat_id, update.message.migrate_from_chat_id) for update in updates if update.message
    ]
    assert told[1:] == [(moved["chat_id"], None), (None, GROUP)]
    with pytest.raises(ChatMigrated) as caught:
        await bot.send_message(GROUP, "x")
    assert caught.value.new_chat_id == moved["chat_id"]
    assert (await bot.send_message(moved["chat_id"], "x")).chat.type == "supergroup"
    with pytest.raises(SandboxError, match="has become the supergroup"):
        await operator.say(bot.id, GROUP, "hi", ADA)


async def test_a_channel_posts_in_its_own_name(bot: Bot, operator: SandboxClient) -> None:
    said = await operator.say(bot.id, -1001234567890, "news", chat_type="channel", username="thenews")
    await operator.edit(bot.id, -1001234567890, said.message_id, "old news")
    post, edited = await bot.get_updates()
    assert post.channel_post is not None
    assert (post.channel_post.from_user, post.channel_post.text) == (None, "news")
    assert edited.edited_channel_post is not None
    sent = await bot.send_message("@thenews", "mine")
    assert (sent.chat.id, sent.from_user) == (-1001234567890, None)
