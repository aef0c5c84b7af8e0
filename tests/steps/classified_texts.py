"""Texts and the labels that people would give them: what the temperature was measured on."""

from __future__ import annotations

Labelled = tuple[dict[str, str], dict[str, list[str]]]

SETS: dict[str, Labelled] = {
    "topic": (
        {
            "sports": "games, teams, players and matches",
            "politics": "governments, elections, laws and parliament",
            "technology": "computers, software, phones and the internet",
            "health": "illness, medicine, doctors and fitness",
            "food": "cooking, recipes, restaurants and meals",
        },
        {
            "sports": [
                "The striker scored twice in the final minutes",
                "Their goalkeeper was injured before the match",
                "She won the marathon in under three hours",
                "The coach blamed the referee for the loss",
                "Tennis fans queued overnight for tickets",
            ],
            "politics": [
                "The senate passed the budget bill",
                "Voters go to the polls on Sunday",
                "The minister resigned after the scandal",
                "A new treaty was signed between the two countries",
                "The opposition party demands a referendum",
            ],
            "technology": [
                "The new laptop has twice the memory",
                "A bug in the browser leaks passwords",
                "Engineers released version two of the compiler",
                "My phone will not connect to the wifi",
                "The startup builds chips for machine learning",
            ],
            "health": [
                "Take two tablets after breakfast for the fever",
                "The surgeon operated for six hours",
                "Running daily lowers your blood pressure",
                "A vaccine against malaria is being tested",
                "Her allergy gets worse in spring",
            ],
            "food": [
                "Simmer the sauce for twenty minutes",
                "The restaurant serves fresh oysters",
                "Add a pinch of salt and stir the dough",
                "Her grandmother's apple pie was delicious",
                "We ordered pizza and a salad",
            ],
        },
    ),
    "ticket": (
        {
            "billing": "invoices, payments, refunds and prices",
            "bug": "something is broken, an error or a crash",
            "account": "login, password, profile and access",
            "shipping": "delivery of a parcel, tracking and address",
        },
        {
            "billing": [
                "I was charged twice this month",
                "Please send me the invoice for March",
                "How much does the premium plan cost?",
                "I want my money back",
                "My credit card was declined",
            ],
            "bug": [
                "The app crashes when I open settings",
                "I get an error 500 on the upload page",
                "The export button does nothing",
                "Since the update the screen stays black",
                "Numbers in the report are wrong",
            ],
            "account": [
                "I forgot my password",
                "How do I change my email address?",
                "I cannot log in any more",
                "Please delete my profile",
                "Two factor authentication is locked",
            ],
            "shipping": [
                "My package has not arrived",
                "Where is my order now?",
                "Can you deliver to another street?",
                "The tracking number is invalid",
                "The parcel was damaged by the courier",
            ],
        },
    ),
    "intent": (
        {
            "how-to": "how to do something, step by step instructions",
            "policy": "what is allowed, rules, obligations and permissions",
            "other": "small talk, greetings and anything else",
        },
        {
            "how-to": [
                "How do I reset the router?",
                "What steps install the printer driver?",
                "How can I export a report as PDF?",
                "Show me how to configure the backup",
                "How do I create a new project?",
            ],
            "policy": [
                "Am I allowed to work from home on Fridays?",
                "How many vacation days do employees get?",
                "Is it permitted to expense alcohol?",
                "What is the rule about personal devices?",
                "Do managers have to approve overtime?",
            ],
            "other": [
                "Hello there!",
                "Thanks, have a nice day",
                "Who won the game last night?",
                "You are funny",
                "Good morning",
            ],
        },
    ),
    "mood": (
        {
            "positive": "happy, great, love it, excellent",
            "negative": "angry, terrible, hate it, disappointed",
        },
        {
            "positive": [
                "I love this product",
                "Works perfectly, thank you",
                "Best purchase of the year",
                "The staff were friendly and helpful",
                "Amazing quality",
            ],
            "negative": [
                "This is the worst service ever",
                "I am very disappointed",
                "It broke after one day",
                "Terrible experience, never again",
                "Awful noise and a bad smell",
            ],
        },
    ),
    "lang": (
        {
            "python": "Python programming language",
            "rust": "Rust programming language, borrow checker, cargo",
            "sql": "SQL database queries and tables",
        },
        {
            "python": [
                "list comprehension with a generator",
                "pip install fails in my virtualenv",
                "asyncio event loop is already running",
            ],
            "rust": [
                "cargo build cannot find the crate",
                "borrowed value does not live long enough",
                "lifetime of a struct with references",
            ],
            "sql": [
                "left join two tables on id",
                "group by and having count",
                "select distinct rows where null",
            ],
        },
    ),
}
