"""Our own prompts for LongBench's tasks, with the benchmark's instructions in other words.

Scores with them cannot be compared with published ones, which need the benchmark's own prompts (--prompts).
"""

PASSAGES = (
    "Here are several passages. A question about them follows; what it asks may be spread over more than one.\n\n"
    "{context}\n\nUsing the passages above, answer in a few words. Say the answer alone.\n\nQuestion: {input}\nAnswer:"
)
PROMPTS = {
    "narrativeqa": "Here is a story: a book or the script of a film. A question about it follows.\n\n{context}\n\n"
    "The story ends here. Answer the question about it with a short phrase. Give no reasons.\n\n"
    "Question: {input}\n\nAnswer:",
    "qasper": "Here is a research paper. A question about it follows.\n\n{context}\n\nThe paper ends here. Answer the "
    'question about it with a phrase or one sentence. Where "yes" or "no" is an answer, say that and nothing else; '
    'where the paper does not tell, say "unanswerable". Give no reasons.\n\nQuestion: {input}\n\nAnswer:',
    "multifieldqa_en": "Here is a text. A question about it follows.\n\n{context}\n\nUsing the text above, answer "
    "briefly. Say the answer alone.\n\nQuestion: {input}\nAnswer:",
    # Here is a text. A question about it follows. / Using the text above, answer briefly in Chinese, the answer alone.
    "multifieldqa_zh": "\u4e0b\u9762\u662f\u4e00\u7bc7\u6587\u7ae0\uff0c\u6587\u540e\u6709\u4e00\u4e2a\u95ee\u9898"
    "\u3002\n\n{context}\n\n\u6839\u636e\u4e0a\u6587\uff0c\u7528\u4e2d\u6587\u7b80\u8981\u4f5c\u7b54\uff0c\u53ea"
    "\u5199\u51fa\u7b54\u6848\u672c\u8eab\u3002\n\n\u95ee\u9898\uff1a{input}\n\u7b54\u6848\uff1a",
    "hotpotqa": PASSAGES,
    "2wikimqa": PASSAGES,
    "musique": PASSAGES,
    # Read the following pages, then answer the question. / Pages: / Using these pages, answer:
    "dureader": "\u9605\u8bfb\u4e0b\u5217\u7f51\u9875\uff0c\u7136\u540e\u56de\u7b54\u95ee\u9898\u3002\n\n"
    "\u7f51\u9875\uff1a{context}\n\n\u6839\u636e\u8fd9\u4e9b\u7f51\u9875\u4f5c\u7b54\u3002\n\n"
    "\u95ee\u9898\uff1a{input}\n\u7b54\u6848\uff1a",
    "gov_report": "Here is a report by a public office.\n\n{context}\n\nThe report ends here. Sum it up on one page."
    "\n\nSummary:",
    "qmsum": "Here is the record of a meeting. A request about it follows.\n\n{context}\n\nThe record ends here. "
    "Do what is asked in a few sentences.\n\nRequest: {input}\nAnswer:",
    "multi_news": "Here are several articles about one piece of news.\n\n{context}\n\nThe articles end here. Sum all "
    "of them up together on one page.\n\nSummary:",
    # Here is the record of a meeting. / Sum up what was discussed in one paragraph. / Summary:
    "vcsum": "\u4e0b\u9762\u662f\u4e00\u4efd\u4f1a\u8bae\u8bb0\u5f55\u3002\n\n{context}\n\n\u8bf7\u7528\u4e00\u6bb5"
    "\u8bdd\u6982\u62ec\u4f1a\u8bae\u8ba8\u8bba\u4e86\u4ec0\u4e48\u3002\n\n\u6982\u62ec\uff1a",
    "trec": "Every question has a type. The types of these are known; say that of the last.\n\n{context}\n{input}",
    "triviaqa": "Each question below stands after a passage that answers it. Answer the last one as the others are "
    "answered, in a few words.\n\n{context}\n\n{input}",
    "samsum": "Each conversation below is summed up in a sentence or two. Sum up the last one like the others.\n\n"
    "{context}\n\n{input}",
    # Every piece of news has a category. Say that of the last, as in the examples.
    "lsht": "\u6bcf\u6761\u65b0\u95fb\u5c5e\u4e8e\u4e00\u4e2a\u7c7b\u522b\u3002\u8bf7\u4eff\u7167\u4f8b\u5b50\uff0c"
    "\u8bf4\u51fa\u6700\u540e\u4e00\u6761\u7684\u7c7b\u522b\u3002\n\n{context}\n{input}",
    "passage_count": "Here are numbered paragraphs. Some of them occur more than once. Count how many different ones "
    "there are.\n\n{context}\n\nHow many different paragraphs are there? Say the number alone, like 1 or 2.\n\n"
    "The number is: ",
    "passage_retrieval_en": "Here are numbered paragraphs. After them comes a summary of one of them.\n\n{context}\n\n"
    'The summary:\n\n{input}\n\nWhich paragraph does it sum up? Answer like "Paragraph 1" or "Paragraph 2".\n\n'
    "It sums up: ",
    # Here are numbered paragraphs. After them comes a summary of one. / Which? Answer like "paragraph 1". / It is:
    "passage_retrieval_zh": "\u4e0b\u9762\u662f\u7f16\u4e86\u53f7\u7684\u6bb5\u843d\uff0c\u968f\u540e\u662f\u5176"
    "\u4e2d\u4e00\u6bb5\u7684\u6458\u8981\u3002\n\n{context}\n\n\u6458\u8981\uff1a\n\n{input}\n\n\u8fd9\u662f\u54ea"
    '\u4e00\u6bb5\u7684\u6458\u8981\uff1f\u8bf7\u6309"\u6bb5\u843d1"\u6216"\u6bb5\u843d2"\u7684\u683c\u5f0f\u56de'
    "\u7b54\u3002\n\n\u8fd9\u662f\uff1a",
    "lcc": "Write the line of code that comes after this.\n{context}The next line:\n",
    "repobench-p": "Write the line of code that comes after this.\n{context}{input}The next line:\n",
}
